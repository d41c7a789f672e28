# varve in an image, built from this checkout:
#
#   varve build -t varve .
#
# RUST_IMAGE and BASE_IMAGE name other bases: of a registry of your own, of the store, or of
# --build-context NAME=…. Both have to be Debian or its like, the second not older than the first:
# it brings the C library. What was built before is taken with --build-context files=DIR (DIR/usr,
# as `cargo xtask install --prefix /usr --destdir DIR` makes it); then nothing is compiled.
# PROFILE=dev compiles faster, and what runs more slowly. --build-context seed=DIR spares compiling
# RocksDB: in DIR/varve the rocksdb-… directory that `cargo xtask setup` has made in
# ~/.cache/varve on a machine with the same compiler.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM scratch AS seed

FROM ${RUST_IMAGE} AS compile
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates g++ libclang-14-dev libseccomp-dev pkg-config protobuf-compiler
WORKDIR /src
COPY . .
ARG PROFILE=dist
ARG SOURCE_DATE_EPOCH
# Crates, RocksDB and what was compiled stay in caches: a changed line costs what it changes. The
# secrets are for machines with a mirror or certificates of their own; without them nothing is mounted.
RUN --mount=type=cache,target=/var/cache/cargo \
    --mount=type=cache,target=/var/cache/varve-build,from=seed \
    --mount=type=secret,id=cargo-config,target=/var/cache/cargo/config.toml \
    --mount=type=secret,id=certificates,target=/etc/ssl/certs/ca-certificates.crt \
    CARGO_HOME=/var/cache/cargo \
    CARGO_TARGET_DIR=/var/cache/varve-build/target \
    XDG_CACHE_HOME=/var/cache/varve-build \
    CARGO_INCREMENTAL=0 \
    cargo xtask install --profile "$PROFILE" --prefix /usr --destdir /out

FROM scratch AS files
COPY --from=compile /out /
COPY --from=compile /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="varve" \
      org.opencontainers.image.description="A container image builder with its own storage" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=files / /
# State cannot lie on the overlay that a container is.
VOLUME /var/lib/varve
ENTRYPOINT ["varve"]
CMD ["--help"]
