# An image that contains only the gateway: no shell, no package manager, one user.
#
#   docker build -t keyward .
#   docker run --rm keyward --version
#
# See docs/guides/docker.md and deploy/docker-compose.yaml. It needs BuildKit for the caches.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# It reads the counts of the run between the two compilations of release/compile.
RUN rustup component add llvm-tools
COPY . .
# The target directory is a cache and not part of the layer: the script copies the results out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    release/compile && deploy/image-root.sh "target/$(rustc --print host-tuple)/dist/keyward" /image

FROM scratch
COPY --from=build /image/root/ /
# A new volume gets these files with their owner.
COPY --from=build --chown=65532:65532 /image/data/ /data/
COPY --from=build --chown=65532:65532 /image/certs/ /certs/
ENV KEYWARD_DATA=/data/keyward
# A number, because Kubernetes cannot check a name for root (runAsNonRoot).
USER 65532:65532
VOLUME /data
# The proxy, and the admin listener. Both are on loopback until the configuration says otherwise.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/keyward", "health"]
ENTRYPOINT ["/keyward"]
CMD ["serve"]
