internal import NetworkAddresses

/// Numbers for texts: each the hash of its text, or where two texts hash alike, the next free one of a fixed sequence.
///
/// The numbers follow from the texts in use and not from the order in which they came, so a restart finds what it left.
/// They name things in the kernel; two texts never share one, even where somebody chose them so that they hash alike.
struct StableNumbers: Sendable {
    /// How wide the numbers are; fewer bits than 32 only to see collisions.
    private let bits: UInt32
    private var users: [String: Int] = [:]
    private var numbers: [String: UInt32] = [:]
    private var taken: [UInt32: String] = [:]
    /// Texts without the number of their hash; almost always none.
    private var displaced: Set<String> = []
    private var touched: Set<String> = []

    init(bits: UInt32 = 32) { self.bits = bits }

    /// The number of a text in use, as of the last `settle`.
    subscript(_ text: String) -> UInt32 { numbers[text]! }

    mutating func retain(_ text: String) {
        users[text, default: 0] += 1
        touched.insert(text)
    }

    mutating func release(_ text: String) {
        let count = users[text, default: 1] - 1
        users[text] = count == 0 ? nil : count
        touched.insert(text)
    }

    /// Gives every text in use its number and takes back those of the others.
    ///
    /// - Returns: Whether a number that stood for one text may stand for another now. What was named by numbers has to
    ///   be taken down before it is put up again then.
    mutating func settle() -> Bool {
        let added = touched.filter { users[$0] != nil && numbers[$0] == nil }
        let removed = touched.filter { users[$0] == nil && numbers[$0] != nil }
        touched = []
        let freed = Set(removed.map { numbers[$0]! })
        for text in removed { taken[numbers.removeValue(forKey: text)!] = nil }
        // A displaced text may stand where a new one belongs, or belong where an old one stood.
        var isSimple = displaced.isEmpty || added.isEmpty && removed.isEmpty
        for text in added where isSimple {
            let number = choice(0, of: text)
            isSimple = taken[number] == nil && !freed.contains(number)
            if isSimple { assign(number, to: text) }
        }
        if !isSimple { reassign() }
        return !isSimple
    }

    /// Gives out all numbers anew, in the order of the texts.
    private mutating func reassign() {
        numbers = [:]
        taken = [:]
        displaced = []
        for text in users.keys.sorted() {
            var attempt = 0
            while taken[choice(attempt, of: text)] != nil { attempt += 1 }
            assign(choice(attempt, of: text), to: text)
            if attempt > 0 { displaced.insert(text) }
        }
    }

    private mutating func assign(_ number: UInt32, to text: String) {
        numbers[text] = number
        taken[number] = text
    }

    /// The number a text would have if the first `attempt` ones were taken.
    private func choice(_ attempt: Int, of text: String) -> UInt32 {
        let first = UInt32(truncatingIfNeeded: StableHash(text).value)
        return (first &+ UInt32(truncatingIfNeeded: attempt)) & (UInt32.max >> (32 - bits))
    }
}
