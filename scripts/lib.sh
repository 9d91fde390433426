# Shared by the scripts beside it: where the checkout is, which Debian packages are needed, how to build.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What it takes to build: the netlink libraries and how to find them.
build_packages=(libmnl-dev libnftnl-dev libnl-3-dev libnl-route-3-dev pkg-config)
# Programs that nobody here wrote: the tests' witnesses, and the runtimes that call the plugins.
test_packages=(nftables iptables iproute2 iputils-ping conntrack containerd runc curl procps python3
    containernetworking-plugins strace podman busybox-static python3-grpcio)
# A module that a target uses without declaring it would break the picture of the targets in the README.
build_flags=(--explicit-target-dependency-import-check error)

# A headline of long work.
step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Installs the Debian packages that are missing; says what to do where it may not.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    step "Installing ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || fail "these Debian packages are missing; run: sudo apt-get install ${missing[*]}"
    # The list of packages may be missing or old.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
}

# sudo may have dropped the path to the Swift toolchain.
need_swift() {
    local folder
    for folder in /opt/swift/usr/bin /usr/local/swift/usr/bin /usr/share/swift/usr/bin "${SUDO_USER:+/home/$SUDO_USER/.local/share/swiftly/bin}"; do
        command -v swift >/dev/null && return
        [ -n "$folder" ] && [ -x "$folder/swift" ] && PATH=$folder:$PATH
    done
    command -v swift >/dev/null || fail "there is no 'swift' in PATH; install Swift 6.3 (swift.org/install) and pass its path on: sudo env PATH=\$PATH $0"
}

# Makes release builds take in the netlink libraries and the C++ runtime whole: looking for eight shared libraries and
# binding them together is half the time that a plugin takes to start, and `fairlead-cni` is to need none of them.
link_archives() {
    local folder=$root/.build/archives package library found
    mkdir -p "$folder"
    for package in libnl-3.0:nl-3 libnl-route-3.0:nl-route-3 libnftnl:nftnl; do
        library=lib${package#*:}.a package=${package%:*}
        found=$(pkg-config --variable=libdir "$package")/$library
        [ -e "$found" ] || continue
        ln -sfn "$found" "$folder/$library"
        # The same package for the build, but for the folder that the linker looks into.
        sed "s#^libdir=.*#libdir=$folder#" "$(pkg-config --variable=pcfiledir "$package")/$package.pc" >"$folder/$package.pc"
    done
    for found in /usr/lib/gcc/*/*/libstdc++.a; do
        if [ -e "$found" ]; then ln -sfn "$found" "$folder/libstdc++.a"; fi
    done
    export PKG_CONFIG_PATH=$folder${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
}
