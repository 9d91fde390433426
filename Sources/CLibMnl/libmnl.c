// What libnftnl and Fairlead call of libmnl, behind libmnl's own header.
//
// Debian has libmnl as a shared library only, and a program that is linked with one cannot be static: `fairlead-cni`
// would need libmnl.so.0 on every node that it is copied to, a C library of the right age, and half a millisecond more
// to start. The declarations are the package's, so that the compiler holds these definitions to them.

#include <libmnl/libmnl.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// MARK: - Sockets

struct mnl_socket {
    int fd;
    struct sockaddr_nl address;
};

struct mnl_socket *mnl_socket_open2(int bus, int flags) {
    struct mnl_socket *socket_ = calloc(1, sizeof *socket_);
    if (!socket_) return NULL;
    socket_->fd = socket(AF_NETLINK, SOCK_RAW | flags, bus);
    if (socket_->fd >= 0) return socket_;
    free(socket_);
    return NULL;
}

struct mnl_socket *mnl_socket_open(int bus) { return mnl_socket_open2(bus, 0); }

int mnl_socket_bind(struct mnl_socket *socket_, unsigned int groups, pid_t pid) {
    struct sockaddr_nl *address = &socket_->address;
    *address = (struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_groups = groups, .nl_pid = pid};
    if (bind(socket_->fd, (struct sockaddr *)address, sizeof *address) < 0) return -1;
    // The kernel chooses the number where none was asked for.
    socklen_t length = sizeof *address;
    return getsockname(socket_->fd, (struct sockaddr *)address, &length);
}

int mnl_socket_close(struct mnl_socket *socket_) {
    int result = close(socket_->fd);
    free(socket_);
    return result;
}

int mnl_socket_get_fd(const struct mnl_socket *socket_) { return socket_->fd; }
unsigned int mnl_socket_get_portid(const struct mnl_socket *socket_) { return socket_->address.nl_pid; }

ssize_t mnl_socket_sendto(const struct mnl_socket *socket_, const void *request, size_t size) {
    static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    return sendto(socket_->fd, request, size, 0, (const struct sockaddr *)&kernel, sizeof kernel);
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket_, void *buffer, size_t size) {
    struct sockaddr_nl sender;
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {
        .msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &part, .msg_iovlen = 1};
    ssize_t count = recvmsg(socket_->fd, &message, 0);
    if (count < 0) return count;
    if (message.msg_flags & MSG_TRUNC) errno = ENOSPC;
    else if (message.msg_namelen != sizeof sender) errno = EINVAL;
    else return count;
    return -1;
}

int mnl_socket_setsockopt(const struct mnl_socket *socket_, int type, void *value, socklen_t length) {
    return setsockopt(socket_->fd, SOL_NETLINK, type, value, length);
}

// MARK: - Messages

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *message) { return message->nlmsg_len - MNL_NLMSG_HDRLEN; }
void *mnl_nlmsg_get_payload(const struct nlmsghdr *message) { return (char *)message + MNL_NLMSG_HDRLEN; }
static void *tail(const struct nlmsghdr *message) { return (char *)message + MNL_ALIGN(message->nlmsg_len); }

struct nlmsghdr *mnl_nlmsg_put_header(void *buffer) {
    struct nlmsghdr *message = memset(buffer, 0, MNL_NLMSG_HDRLEN);
    message->nlmsg_len = MNL_NLMSG_HDRLEN;
    return message;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *message, size_t size) {
    void *header = tail(message);
    message->nlmsg_len += MNL_ALIGN(size);
    return memset(header, 0, MNL_ALIGN(size));
}

bool mnl_nlmsg_ok(const struct nlmsghdr *message, int left) {
    return left >= (int)sizeof *message && message->nlmsg_len >= sizeof *message && (int)message->nlmsg_len <= left;
}

struct nlmsghdr *mnl_nlmsg_next(const struct nlmsghdr *message, int *left) {
    *left -= MNL_ALIGN(message->nlmsg_len);
    return tail(message);
}

// MARK: - Attributes: reading

uint16_t mnl_attr_get_type(const struct nlattr *attribute) { return attribute->nla_type & NLA_TYPE_MASK; }
uint16_t mnl_attr_get_payload_len(const struct nlattr *attribute) { return attribute->nla_len - MNL_ATTR_HDRLEN; }
void *mnl_attr_get_payload(const struct nlattr *attribute) { return (char *)attribute + MNL_ATTR_HDRLEN; }
const char *mnl_attr_get_str(const struct nlattr *attribute) { return mnl_attr_get_payload(attribute); }
uint8_t mnl_attr_get_u8(const struct nlattr *attribute) { return *(uint8_t *)mnl_attr_get_payload(attribute); }
uint16_t mnl_attr_get_u16(const struct nlattr *attribute) { return *(uint16_t *)mnl_attr_get_payload(attribute); }
uint32_t mnl_attr_get_u32(const struct nlattr *attribute) { return *(uint32_t *)mnl_attr_get_payload(attribute); }

uint64_t mnl_attr_get_u64(const struct nlattr *attribute) {
    uint64_t value;
    // Attributes lie at multiples of four bytes.
    memcpy(&value, mnl_attr_get_payload(attribute), sizeof value);
    return value;
}

bool mnl_attr_ok(const struct nlattr *attribute, int left) {
    return left >= (int)sizeof *attribute && attribute->nla_len >= sizeof *attribute && attribute->nla_len <= left;
}

struct nlattr *mnl_attr_next(const struct nlattr *attribute) {
    return (struct nlattr *)((char *)attribute + MNL_ALIGN(attribute->nla_len));
}

int mnl_attr_type_valid(const struct nlattr *attribute, uint16_t greatest) {
    if (mnl_attr_get_type(attribute) <= greatest) return 1;
    errno = EOPNOTSUPP;
    return -1;
}

int mnl_attr_validate(const struct nlattr *attribute, enum mnl_attr_data_type type) {
    static const uint16_t sizes[MNL_TYPE_MAX] = {
        [MNL_TYPE_U8] = 1, [MNL_TYPE_U16] = 2, [MNL_TYPE_U32] = 4, [MNL_TYPE_U64] = 8, [MNL_TYPE_MSECS] = 8};
    if (type < 0 || type >= MNL_TYPE_MAX) {
        errno = EINVAL;
        return -1;
    }
    uint16_t length = mnl_attr_get_payload_len(attribute);
    const char *bytes = mnl_attr_get_payload(attribute);
    bool is_valid = length >= sizes[type];
    switch (type) {
    case MNL_TYPE_FLAG: is_valid = length == 0; break;
    case MNL_TYPE_STRING: is_valid = length > 0; break;
    case MNL_TYPE_NUL_STRING: is_valid = length > 0 && bytes[length - 1] == 0; break;
    // An empty nest is none of a header's length either.
    case MNL_TYPE_NESTED: is_valid = length == 0 || length >= MNL_ATTR_HDRLEN; break;
    default: break;
    }
    if (is_valid) return 0;
    errno = ERANGE;
    return -1;
}

static int parse(const char *from, const char *end, mnl_attr_cb_t visit, void *context) {
    int result = MNL_CB_OK;
    const struct nlattr *attribute = (const struct nlattr *)from;
    for (; mnl_attr_ok(attribute, (int)(end - (char *)attribute)); attribute = mnl_attr_next(attribute))
        if ((result = visit(attribute, context)) <= MNL_CB_STOP) return result;
    return result;
}

int mnl_attr_parse(const struct nlmsghdr *message, unsigned int offset, mnl_attr_cb_t visit, void *context) {
    return parse((char *)mnl_nlmsg_get_payload(message) + MNL_ALIGN(offset), tail(message), visit, context);
}

int mnl_attr_parse_nested(const struct nlattr *nest, mnl_attr_cb_t visit, void *context) {
    const char *payload = mnl_attr_get_payload(nest);
    return parse(payload, payload + mnl_attr_get_payload_len(nest), visit, context);
}

// MARK: - Attributes: writing

void mnl_attr_put(struct nlmsghdr *message, uint16_t type, size_t length, const void *bytes) {
    struct nlattr *attribute = tail(message);
    size_t whole = MNL_ATTR_HDRLEN + length;
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)whole;
    if (length > 0) memcpy(mnl_attr_get_payload(attribute), bytes, length);
    memset((char *)attribute + whole, 0, MNL_ALIGN(whole) - whole);
    message->nlmsg_len += MNL_ALIGN(whole);
}

void mnl_attr_put_u8(struct nlmsghdr *message, uint16_t type, uint8_t value) {
    mnl_attr_put(message, type, sizeof value, &value);
}
void mnl_attr_put_u16(struct nlmsghdr *message, uint16_t type, uint16_t value) {
    mnl_attr_put(message, type, sizeof value, &value);
}
void mnl_attr_put_u32(struct nlmsghdr *message, uint16_t type, uint32_t value) {
    mnl_attr_put(message, type, sizeof value, &value);
}
void mnl_attr_put_u64(struct nlmsghdr *message, uint16_t type, uint64_t value) {
    mnl_attr_put(message, type, sizeof value, &value);
}
void mnl_attr_put_str(struct nlmsghdr *message, uint16_t type, const char *text) {
    mnl_attr_put(message, type, strlen(text), text);
}
void mnl_attr_put_strz(struct nlmsghdr *message, uint16_t type, const char *text) {
    mnl_attr_put(message, type, strlen(text) + 1, text);
}

struct nlattr *mnl_attr_nest_start(struct nlmsghdr *message, uint16_t type) {
    struct nlattr *nest = tail(message);
    nest->nla_type = NLA_F_NESTED | type;
    message->nlmsg_len += MNL_ALIGN(sizeof *nest);
    return nest;
}

void mnl_attr_nest_end(struct nlmsghdr *message, struct nlattr *nest) {
    nest->nla_len = (uint16_t)((char *)tail(message) - (char *)nest);
}

// MARK: - Batches and answers: for libnftnl's `nftnl_batch_is_supported`

struct mnl_nlmsg_batch {
    char *buffer;
    size_t limit;
    size_t size;
    bool is_full;
};

struct mnl_nlmsg_batch *mnl_nlmsg_batch_start(void *buffer, size_t limit) {
    struct mnl_nlmsg_batch *batch = calloc(1, sizeof *batch);
    if (batch) *batch = (struct mnl_nlmsg_batch){.buffer = buffer, .limit = limit};
    return batch;
}

void mnl_nlmsg_batch_stop(struct mnl_nlmsg_batch *batch) { free(batch); }
void *mnl_nlmsg_batch_head(struct mnl_nlmsg_batch *batch) { return batch->buffer; }
void *mnl_nlmsg_batch_current(struct mnl_nlmsg_batch *batch) { return batch->buffer + batch->size; }
size_t mnl_nlmsg_batch_size(struct mnl_nlmsg_batch *batch) { return batch->size; }

bool mnl_nlmsg_batch_next(struct mnl_nlmsg_batch *batch) {
    size_t size = batch->size + ((struct nlmsghdr *)mnl_nlmsg_batch_current(batch))->nlmsg_len;
    // The message that goes beyond the limit is the next batch's first; the buffer has room for it.
    if (size > batch->limit) batch->is_full = true;
    else batch->size = size;
    return !batch->is_full;
}

int mnl_cb_run(const void *buffer, size_t size, unsigned sequence, unsigned port, mnl_cb_t visit, void *context) {
    int result = MNL_CB_OK;
    int left = (int)size;
    for (const struct nlmsghdr *message = buffer; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
        // Notifications have the number 0 for either.
        if (port && message->nlmsg_pid && message->nlmsg_pid != port) return errno = ESRCH, -1;
        if (sequence && message->nlmsg_seq && message->nlmsg_seq != sequence) return errno = EPROTO, -1;
        if (message->nlmsg_type == NLMSG_DONE) return MNL_CB_STOP;
        if (message->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);
            if (mnl_nlmsg_get_payload_len(message) < sizeof *error) return errno = EBADMSG, -1;
            errno = abs(error->error);
            return errno == 0 ? MNL_CB_STOP : MNL_CB_ERROR;
        }
        if (message->nlmsg_type < NLMSG_MIN_TYPE) continue;
        if (visit && (result = visit(message, context)) <= MNL_CB_STOP) return result;
    }
    return result;
}
