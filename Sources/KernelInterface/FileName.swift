import SystemPackage

/// The rule for names in a directory that may come from outside.
enum FileName {
    /// Whether the name is one path component and nothing else: 1…255 bytes, no `/`, no NUL, not `.` or `..`.
    static func isValid(_ name: String) -> Bool {
        let bytes = name.utf8
        return (1...255).contains(bytes.count) && name != "." && name != ".."
            && bytes.allSatisfy { $0 != UInt8(ascii: "/") && $0 != 0 }
    }

    static func check(_ name: String, for operation: @autoclosure () -> String) throws(KernelError) {
        guard isValid(name) else {
            throw KernelError(operation: "\(operation()): bad file name", errno: .invalidArgument)
        }
    }
}
