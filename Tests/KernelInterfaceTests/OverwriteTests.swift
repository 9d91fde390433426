import KernelInterface
import SystemPackage
import Testing

@Suite struct OverwriteTests {
    @Test func `a file written in place has the new content and no more`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            for text in ["10.1.2.3", "10.1.2.255", "::1"] {
                try directory.overwrite("cursor", Array(text.utf8))
                #expect(try directory.read("cursor", limit: 100) == Array(text.utf8))
            }
            #expect(errno(of: { try directory.overwrite("../cursor", []) }) == .invalidArgument)
        }
    }

    @Test func `a directory's time tells of names that come and go`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            var times = [try directory.modificationTime()]
            try directory.create("a", [], synchronized: false)
            times.append(try directory.modificationTime())
            try directory.overwrite("a", [1])
            #expect(try directory.modificationTime() == times.last)
            try directory.remove("a")
            times.append(try directory.modificationTime())
            #expect(times == times.sorted())
        }
    }

    @Test func `half-made files are swept and nothing else`() throws {
        try withTemporaryDirectory { path in
            let directory = try StateDirectory.open(path, create: false)
            for name in [".unfinished-1", "whole", ".hidden"] { try directory.create(name, [], synchronized: false) }
            try directory.removeUnfinished()
            #expect(try directory.read(".unfinished-1", limit: 1) == nil)
            #expect(try directory.entries().sorted() == [".hidden", "whole"])
        }
    }
}
