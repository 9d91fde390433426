import Glibc
import KernelInterface
import SystemPackage
import Testing

/// Whether this process may make network namespaces. Everything here talks to the real kernel, which allows that to
/// root only; elsewhere the tests are skipped and say so.
let mayMakeNamespaces = geteuid() == 0

extension Trait where Self == ConditionTrait {
    static var needsRoot: Self { .enabled(if: mayMakeNamespaces, "making network namespaces needs root") }
}

/// Runs `body` in a directory that is gone afterwards.
func withTemporaryDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
    var template = Array("/tmp/fairlead-tests-XXXXXX".utf8CString)
    let path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    defer {
        let parent = try? StateDirectory.open("/tmp", create: false)
        _ = try? parent?.removeSubdirectory(String(path.dropFirst("/tmp/".count)))
        rmdir(path)
    }
    return try body(path)
}

/// The error number `body` fails with; nil where it does not fail.
func errno<Result: ~Copyable>(of body: () throws -> Result) -> Errno? {
    do {
        _ = try body()
        return nil
    } catch {
        return (error as? KernelError)?.errno
    }
}

extension NetworkNamespace {
    /// What a program prints when it runs in this namespace; a failure of the program is a failure of the test.
    func output(
        of executable: String, _ arguments: String..., location: SourceLocation = #_sourceLocation
    ) throws -> String {
        let captured = try withEntered { () throws(KernelError) in
            try ChildProcess.capture(executable, arguments, timeout: .seconds(20))
        }
        #expect(captured.status.isSuccess, "\(captured.errorText)", sourceLocation: location)
        return captured.text
    }
}

/// Waits until `condition` holds, because some of the kernel's work goes on after its answer; ten seconds are too long.
func eventually(location: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool) throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while try !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("did not come true in time", sourceLocation: location)
            return
        }
        usleep(1000)
    }
}
