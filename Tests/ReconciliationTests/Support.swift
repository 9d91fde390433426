import Glibc
import Testing

extension Trait where Self == ConditionTrait {
    /// Everything here talks to the real kernel; making network namespaces is root's.
    static var needsRoot: Self { .enabled(if: geteuid() == 0, "making network namespaces needs root") }
}
