# docker build -t holdfast .
#
# Where no registry is in reach, scripts/image.sh makes the folder /image on the host and gives it in
# place of the first stage.

ARG RUST_VERSION=1.95
FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    scripts/image-root.sh /image

# Nothing but the program and the CA roots: no shell, no libraries, nothing to keep up to date.
FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Holdfast" \
      org.opencontainers.image.description="A Kubernetes ingress controller for WebSockets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/holdfast"]
