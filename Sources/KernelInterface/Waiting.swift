import Glibc

/// Waits until a descriptor has something to read; false where the timeout passes first. Nil waits for ever.
func waitUntilReadable(_ descriptor: Int32, timeout: Duration?) -> Bool {
    wait(descriptor, for: Int16(POLLIN), until: timeout.map { ContinuousClock.now + $0 })
}

/// Waits until a descriptor is ready for `events`, has failed, or the deadline passes: then false.
func wait(_ descriptor: Int32, for events: Int16, until deadline: ContinuousClock.Instant?) -> Bool {
    while true {
        var request = pollfd(fd: descriptor, events: events, revents: 0)
        if poll(&request, 1, deadline.map { ($0 - .now).pollMilliseconds } ?? -1) > 0 { return true }
        // Interrupted by a signal, or woken a fraction of a millisecond too early.
        if let deadline, ContinuousClock.now >= deadline { return false }
    }
}
