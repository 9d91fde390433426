// libmnl: netlink message batches for nftables.
#include <libmnl/libmnl.h>
