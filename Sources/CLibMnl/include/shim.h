// libmnl: netlink sockets, and the messages and attributes of nftables.
#include <libmnl/libmnl.h>
