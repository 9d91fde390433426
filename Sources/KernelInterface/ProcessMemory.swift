internal import CLinux

/// The memory of this process, as the C library keeps it.
public enum ProcessMemory {
    /// Serves all threads from one pool. To be called before there is a second thread.
    ///
    /// Each thread with a pool of its own keeps what it freed for itself; a long-lived process whose objects wander
    /// from the thread that decodes them to the one that applies them then holds the same memory several times.
    public static func useOneArena() { fairlead_malloc_one_arena() }

    /// Gives memory that was freed back to the kernel. Milliseconds; worth it after a piece of work much larger than
    /// the usual, such as the first list of a cluster's objects.
    public static func releaseUnused() { fairlead_malloc_trim() }
}
