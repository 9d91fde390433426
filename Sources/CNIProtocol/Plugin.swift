/// A CNI plugin: what it does at each of the specification's verbs.
///
/// VERSION is the same for all and is answered by `run`. A plugin gets only requests whose environment and
/// configuration stand the specification's tests, and it throws instead of printing.
public protocol Plugin: Sendable {
    /// The name that a configuration's `type` calls the plugin by.
    var name: String { get }

    /// Attaches a container, or fails and leaves everything as it was.
    func add(_ request: AttachmentRequest) throws(CNIError) -> AttachmentResult

    /// Detaches a container; what is missing already is no error.
    func delete(_ request: AttachmentRequest) throws(CNIError)

    /// Fails where the attachment is not what ADD made it.
    func check(_ request: AttachmentRequest) throws(CNIError)

    /// Removes what attachments of this network left behind that are not valid any more.
    func collectGarbage(_ request: NetworkRequest) throws(CNIError)

    /// Fails where an ADD could not be served now.
    func status(_ request: NetworkRequest) throws(CNIError)
}
