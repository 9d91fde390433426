/// Why the lab could not do something, in one sentence, and what a person can do about it.
public struct LabError: Error, Hashable, Sendable, CustomStringConvertible {
    public var message: String
    /// The next step; empty where there is none to recommend.
    public var advice: String

    public init(_ message: String, advice: String = "") {
        self.message = message
        self.advice = advice
    }

    public var description: String { advice.isEmpty ? message : "\(message)\n\(advice)" }
}
