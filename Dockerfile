# The image of one node: the program, a C library, certificates of the public authorities, and no shell.
#   docker build -t roost .

FROM rust:1.95-bookworm AS build
WORKDIR /roost
COPY . .
# What was compiled stays for the next build, beside the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/roost/target \
    docker/build /out

# Of the same Debian, so that its C library is the one that was linked with.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/roost /usr/local/bin/roost
# A new volume is given the owner of the folder that it is mounted on: "nonroot".
COPY --from=build --chown=65532:65532 /out/data /var/lib/roost
ENV ROOST_LISTEN=0.0.0.0:8080 ROOST_DATA_DIR=/var/lib/roost
WORKDIR /var/lib/roost
VOLUME /var/lib/roost
EXPOSE 8080
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["/usr/local/bin/roost", "health"]
ENTRYPOINT ["/usr/local/bin/roost"]
