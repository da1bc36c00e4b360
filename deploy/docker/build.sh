#!/bin/sh
# The commands of the Dockerfile's build stage. `build.sh tools BUILD TARGET` installs what it takes to build for the architecture TARGET (amd64
# or arm64) on a machine of the architecture BUILD; `build.sh binaries BUILD TARGET OUT` builds all binaries into the directory OUT.
set -eu
step=$1
build=$2
target=$3

case $target in
    amd64) machine=x86_64 debian=x86-64-linux-gnu ;;
    arm64) machine=aarch64 debian=aarch64-linux-gnu ;;
    *)
        echo "there is no image for the architecture '$target'" >&2
        exit 2
        ;;
esac
triple=$machine-unknown-linux-gnu

case $step in
    tools)
        rustup target add "$triple"
        if [ "$build" != "$target" ]; then
            apt-get update
            apt-get install -y --no-install-recommends "gcc-$debian" "g++-$debian" "libc6-dev-$target-cross"
            rm -rf /var/lib/apt/lists/*
        fi
        ;;
    binaries)
        out=$4
        if [ "$build" != "$target" ]; then
            variable=$(echo "$triple" | tr a-z- A-Z_)
            export "CARGO_TARGET_${variable}_LINKER=$machine-linux-gnu-gcc"
            variable=$(echo "$triple" | tr - _)
            export "CC_$variable=$machine-linux-gnu-gcc" "CXX_$variable=$machine-linux-gnu-g++" "AR_$variable=$machine-linux-gnu-ar"
        fi
        # Some kernels for it have pages of 64 KiB, and an allocator for smaller ones does not start there.
        if [ "$target" = arm64 ]; then
            export JEMALLOC_SYS_WITH_LG_PAGE=16
        fi
        cargo build --locked --profile dist --target "$triple" --bins -p countersign-control-plane -p countersign-responder \
            -p countersign-operator -p countersign-cli -p countersign-probe
        mkdir -p "$out/empty"
        for binary in countersign-control-plane countersign-responder countersign-operator countersign countersign-probe; do
            cp "target/$triple/dist/$binary" "$out/$binary"
        done
        ;;
    *)
        echo "usage: build.sh tools|binaries BUILD TARGET [OUT]" >&2
        exit 2
        ;;
esac
