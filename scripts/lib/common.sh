# shellcheck shell=bash
# What the scripts share: finding out what is missing, and saying how to get it. Sourced, not run.

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' blue=$'\e[34m' plain=$'\e[0m'
else
    # shellcheck disable=SC2034 # not every script uses every colour
    bold='' dim='' red='' green='' yellow='' blue='' plain=''
fi

say() { printf '%s\n' "$*" >&2; }
fail() {
    printf '%s%s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# The Debian package that brings a program.
package_of() {
    case $1 in
    cc) echo gcc libc6-dev ;;
    c++) echo g++ ;;
    ip) echo iproute2 ;;
    nft) echo nftables ;;
    turnserver) echo coturn ;;
    dig) echo bind9-dnsutils ;;
    etcd) echo etcd-server ;;
    etcdctl) echo etcd-client ;;
    drill) echo ldnsutils ;;
    musl-gcc) echo musl-tools ;;
    nginx-stream) echo nginx libnginx-mod-stream ;;
    miniupnpd) echo miniupnpd-nftables ;;
    promtool) echo prometheus ;;
    node) echo nodejs ;;
    keytool) echo default-jre-headless ;;
    unshare | nsenter | setpriv) echo util-linux ;;
    *) echo "$1" ;;
    esac
}

# has PROGRAM: whether it is there. nginx's stream module has a package of its own.
has() {
    case $1 in
    nginx-stream) command -v nginx >/dev/null 2>&1 && [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# need PROGRAM...: all of them are there afterwards, or the script ends and says what to install. Root on a system with
# apt gets them installed; Rust comes from rustup, since distributions' compilers are often too old.
need() {
    local program missing=() packages=()
    # rustup's usual place, for shells that haven't been told of it.
    [ -d "$HOME/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
    # Debian keeps nft and others where ordinary users don't look.
    PATH=$PATH:/usr/sbin:/sbin
    for program in "$@"; do
        has "$program" || missing+=("$program")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    for program in "${missing[@]}"; do
        if [ "$program" = cargo ]; then
            fail "cargo is missing. Install Rust $(rust_version) or later: https://rustup.rs"
        fi
        read -ra more <<<"$(package_of "$program")"
        packages+=("${more[@]}")
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing ${packages[*]}"
        install_unstarted "${packages[@]}" >/dev/null ||
            fail "could not install ${packages[*]}"
    else
        fail "missing: ${missing[*]}. As root: apt-get install ${packages[*]} (or what your distribution calls them)"
    fi
}

# The oldest Rust that will do, from Cargo.toml.
rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# need_component NAME...: components of the toolchain.
need_component() {
    local component
    for component in "$@"; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 ||
            fail "cargo has no ${component}: rustup component add ${component}"
    done
}

# The options with which unshare(1) gives this user namespaces of his own.
unshare_options() {
    echo --net --mount --pid --fork --mount-proc --kill-child
    [ "$(id -u)" = 0 ] || echo --user --map-root-user
}

# as_root COMMAND...: as root of namespaces of one's own, with lo up. There is no network: what has to be fetched must be
# there already.
as_root() {
    local options
    read -ra options <<<"$(unshare_options | tr '\n' ' ')"
    # shellcheck disable=SC2016 # the inner shell's
    unshare "${options[@]}" sh -c 'ip link set lo up && exec "$@"' - "$@"
}

# Prints why mesh can't run in namespaces here, and on a second line what to do about it; nothing if it can.
why_no_namespaces() {
    local options said
    read -ra options <<<"$(unshare_options | tr '\n' ' ')"
    if ! said=$(unshare "${options[@]}" true 2>&1); then
        echo "no namespaces for $(id -un): ${said//$'\n'/ }"
        if [ "$(id -u)" != 0 ]; then
            echo "run as root, or allow them: sysctl -w user.max_user_namespaces=10000" \
                "kernel.apparmor_restrict_unprivileged_userns=0 kernel.unprivileged_userns_clone=1 (those that exist)"
        else
            echo "in a container: start it with --privileged, or with --cap-add SYS_ADMIN,NET_ADMIN and --device /dev/net/tun"
        fi
    elif ! said=$(unshare "${options[@]}" ip tuntap add dev mesh-probe mode tun 2>&1); then
        echo "no TUN interfaces for $(id -un): ${said//$'\n'/ }"
        if [ ! -e /dev/net/tun ]; then
            echo "as root: modprobe tun; in a container: --device /dev/net/tun"
        else
            echo "run as root, or open the device to all, as udev does: chmod 0666 /dev/net/tun"
        fi
    fi
}

# Prints why container runtimes can't be tried here, and on a second line what to do about it; nothing if they can. Root on
# a system with apt gets them installed, and none of them is started.
why_no_runtimes() {
    local packages=(docker.io containerd runc podman crun conmon containernetworking-plugins iptables busybox-static tini
        postgresql docker-compose redis-server systemd dpkg-dev)
    if [ "$(id -u)" != 0 ]; then
        echo "container runtimes need root, and this is $(id -un)"
        echo "run scripts/test as root, in a virtual machine if you like"
        return
    fi
    [ -z "$(missing_runtimes)" ] && return
    if command -v apt-get >/dev/null 2>&1; then
        say "installing ${packages[*]}"
        install_unstarted "${packages[@]}" >/dev/null 2>&1
    fi
    local missing
    missing=$(missing_runtimes)
    if [ -n "$missing" ]; then
        echo "missing: $missing"
        echo "apt-get install ${packages[*]}, as root on Debian 12 or later"
    fi
}

# What of the programs that the runtimes' tests need isn't there.
missing_runtimes() {
    local program missing=()
    for program in dockerd docker docker-compose containerd runc podman crun conmon iptables tini redis-server redis-cli systemctl \
        dpkg-shlibdeps; do
        command -v "$program" >/dev/null 2>&1 || missing+=("$program")
    done
    # The image in the tests is nothing but this file.
    if [ ! -x /bin/busybox ] || ldd /bin/busybox >/dev/null 2>&1; then missing+=("a static /bin/busybox"); fi
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
    [ -x /usr/lib/cni/bridge ] || missing+=("the CNI plugins")
    echo "${missing[*]-}"
}

# install_unstarted PACKAGE...: policy-rc.d(8) keeps Debian from starting the daemons in them.
install_unstarted() {
    local policy=/usr/sbin/policy-rc.d ours='' code=0
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
    fi
    # Without the lists, which a fresh image hasn't got, apt-get knows no package.
    DEBIAN_FRONTEND=noninteractive apt-get update -q || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" || code=$?
    [ -z "$ours" ] || rm -f $policy
    return "$code"
}
