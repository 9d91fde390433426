// libnl-3 and libnl-route-3: rtnetlink sockets, links, addresses, routes and neighbours.
//
// Both libraries show the kernel's <linux/netlink.h>. Through CLibMnl it has one owner, and Swift one `nlmsghdr`.
#include "../CLibMnl/include/shim.h"
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <netlink/msg.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/cache.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/link/vxlan.h>
#include <netlink/route/addr.h>
#include <netlink/route/route.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/neighbour.h>
