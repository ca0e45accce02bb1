//! Package managers that install a private package from private registries with a credential.

use std::path::Path;

use serde_json::json;

use crate::api::http;
use crate::served::{Program, Service, Takes, served};
use crate::shelf::{integrity, sha1, sha256, shelf};
use crate::stage::installed;
use test_support::Message;

const NPM: Service = Service {
    provider: "acme-npm",
    own: "{ id: acme-npm, name: Acme, hosts: [npm.acme.test], \
          auth: [{ id: token, kind: bearer, env: [ACME_NPM_TOKEN] }] }",
    fields: "{ token: { env: CANARY } }",
    hosts: &["npm.acme.test"],
    takes: Takes::Field("authorization", "Bearer "),
    answer: npm,
};

const PYPI: Service = Service {
    provider: "acme-pypi",
    own: "{ id: acme-pypi, name: Acme, hosts: [pypi.acme.test], auth: [{ id: login, kind: basic, \
          fields: [{ name: username, label: User, secret: false }, \
          { name: password, label: Password, env: [ACME_PYPI_PASSWORD] }], \
          placement: { basic: \"{username}:{password}\" } }] }",
    fields: "{ username: me, password: { env: CANARY } }",
    hosts: &["pypi.acme.test"],
    takes: Takes::Basic("me"),
    answer: pypi,
};

const CARGO: Service = Service {
    provider: "acme-cargo",
    own: "{ id: acme-cargo, name: Acme, hosts: [cargo.acme.test], \
          auth: [{ id: token, kind: api_key, placement: { header: Authorization }, \
          env: [CARGO_REGISTRIES_ACME_TOKEN] }] }",
    fields: "{ api_key: { env: CANARY } }",
    hosts: &["cargo.acme.test"],
    takes: Takes::Field("authorization", ""),
    answer: cargo,
};

const APT: Service = Service {
    provider: "acme-apt",
    own: "{ id: acme-apt, name: Acme, hosts: [apt.acme.test], auth: [{ id: login, kind: basic }] }",
    fields: "{ username: me, password: { env: CANARY } }",
    hosts: &["apt.acme.test"],
    takes: Takes::Basic("me"),
    answer: apt,
};

/// A repository of Maven's, for Gradle as well.
pub(crate) const MAVEN: Service = Service {
    provider: "acme-maven",
    own: "{ id: acme-maven, name: Acme, hosts: [maven.acme.test], \
          auth: [{ id: login, kind: basic }] }",
    fields: "{ username: me, password: { env: CANARY } }",
    hosts: &["maven.acme.test"],
    takes: Takes::Basic("me"),
    answer: maven,
};

/// What every manager is asked, with `$1` for the one that `tests/run` installed.
fn with(program: &str, line: &str) -> Program {
    Program::shell(line).argument(installed(program).to_str().expect("a path of letters"))
}

fn in_cargo_s_project() -> Program {
    // The one that builds this, and its compiler: rustup's own are found by a home.
    let cargo = Path::new(env!("CARGO"));
    let tools = cargo.parent().and_then(Path::to_str).expect("a path of letters");
    Program::shell("export PATH=\"$1:$PATH\"; cargo run --quiet").argument(tools).with("cargo")
}

const PIP: &str = "
\"$1\" -m pip install --quiet --target site \\
    --index-url \"https://me:$ACME_PYPI_PASSWORD@pypi.acme.test/simple/\" fine
PYTHONPATH=site \"$1\" -c 'import fine; print(\"answer:\", fine.word)'";

const UV: &str = "
\"$1\" pip install --quiet --target site \\
    --index-url \"https://me:$ACME_PYPI_PASSWORD@pypi.acme.test/simple/\" fine
PYTHONPATH=site python3 -c 'import fine; print(\"answer:\", fine.word)'";

const SAYS: &str = "node -p '`answer: ${require(`@acme/fine`)}`'";

served! {
    npm_is_served:
        Program::shell(&format!("npm install --no-audit --no-fund; {SAYS}")).with("npm"),
        NPM, ["GET /@acme%2ffine", "GET /@acme/fine/-/fine-1.0.0.tgz"];
    pnpm_is_served:
        with("real-node/node_modules/.bin/pnpm", &format!("\"$1\" install; {SAYS}")).with("npm"),
        NPM, ["GET /@acme%2Ffine", "GET /@acme/fine/-/fine-1.0.0.tgz"];
    pip_is_served: with("real-venv/bin/python", PIP), PYPI,
        ["GET /files/fine-1.0.0-py3-none-any.whl", "GET /simple/fine/"];
    // It looks for the metadata at the archive's end first.
    uv_is_served: with("real-venv/bin/uv", UV), PYPI,
        [
            "GET /files/fine-1.0.0-py3-none-any.whl", "GET /files/fine-1.0.0-py3-none-any.whl",
            "GET /simple/fine/", "HEAD /files/fine-1.0.0-py3-none-any.whl",
        ];
    cargo_is_served: in_cargo_s_project(), CARGO,
        ["GET /dl/fine/1.0.0/download", "GET /index/config.json", "GET /index/fi/ne/fine"];
    apt_is_served: Program::shell(". ./install.sh").with("apt"), APT,
        [
            "GET /debian/./InRelease", "GET /debian/./Packages", "GET /debian/./Release",
            "GET /debian/./Release.gpg", "GET /debian/./fine.deb",
        ];
}

fn npm(request: &Message) -> Vec<u8> {
    let archive = shelf().npm();
    match request.head.target().to_ascii_lowercase().as_str() {
        "/@acme%2ffine" => {
            let version = json!({
                "name": "@acme/fine", "version": "1.0.0",
                "dist": {
                    "tarball": "https://npm.acme.test/@acme/fine/-/fine-1.0.0.tgz",
                    "integrity": integrity(archive),
                },
            });
            let package = json!({
                "name": "@acme/fine", "dist-tags": { "latest": "1.0.0" },
                "versions": { "1.0.0": version },
            });
            http("200 OK", "application/json", package.to_string())
        }
        "/@acme/fine/-/fine-1.0.0.tgz" => http("200 OK", "application/octet-stream", archive),
        _ => absent(),
    }
}

fn pypi(request: &Message) -> Vec<u8> {
    let wheel = shelf().wheel();
    match request.head.target() {
        "/simple/fine/" => {
            let name = "fine-1.0.0-py3-none-any.whl";
            let hash = sha256(wheel);
            let page = format!(
                "<!DOCTYPE html><html><body>\
                 <a href=\"../../files/{name}#sha256={hash}\">{name}</a></body></html>"
            );
            http("200 OK", "text/html", page)
        }
        "/files/fine-1.0.0-py3-none-any.whl" => http("200 OK", "application/octet-stream", wheel),
        _ => absent(),
    }
}

fn cargo(request: &Message) -> Vec<u8> {
    let archive = shelf().cargo();
    let answer = match request.head.target() {
        "/index/config.json" => json!({
            "dl": "https://cargo.acme.test/dl", "api": "https://cargo.acme.test",
            "auth-required": true,
        }),
        "/index/fi/ne/fine" => json!({
            "name": "fine", "vers": "1.0.0", "deps": [], "cksum": sha256(archive),
            "features": {}, "yanked": false,
        }),
        "/dl/fine/1.0.0/download" => return http("200 OK", "application/gzip", archive),
        _ => return absent(),
    };
    http("200 OK", "application/json", answer.to_string())
}

fn apt(request: &Message) -> Vec<u8> {
    let package = shelf().deb();
    let (length, hash) = (package.len(), sha256(package));
    let index = format!(
        "Package: fine\nVersion: 1.0.0\nArchitecture: all\nMaintainer: Acme <a@acme.test>\n\
         Filename: ./fine.deb\nSize: {length}\nSHA256: {hash}\nDescription: fine\n\n"
    );
    match request.head.target() {
        "/debian/./Release" => {
            let (length, hash) = (index.len(), sha256(index.as_bytes()));
            http("200 OK", "text/plain", format!("SHA256:\n {hash} {length} Packages\n"))
        }
        "/debian/./Packages" => http("200 OK", "text/plain", index),
        "/debian/./fine.deb" => http("200 OK", "application/octet-stream", package),
        _ => absent(),
    }
}

/// Each file with its checksum beside it. Whatever Maven itself wants beside `fine` has its content.
fn maven(request: &Message) -> Vec<u8> {
    let path = request.head.target();
    let (path, is_sum) = match path.strip_suffix(".sha1") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let Some(parts) = path.strip_prefix("/repo/").map(|at| at.split('/').collect::<Vec<_>>())
    else {
        return absent();
    };
    let [group @ .., name, version, file] = &parts[..] else { return absent() };
    let file = match file.rsplit_once('.') {
        Some((_, "jar")) => shelf().jar().to_vec(),
        Some((_, "pom")) => {
            let (group, kind) = (group.join("."), if *name == "parent" { "pom" } else { "jar" });
            format!(
                "<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>\
                 <artifactId>{name}</artifactId><version>{version}</version>\
                 <packaging>{kind}</packaging></project>"
            )
            .into_bytes()
        }
        _ => return absent(),
    };
    match is_sum {
        true => http("200 OK", "text/plain", sha1(&file)),
        false => http("200 OK", "application/octet-stream", file),
    }
}

fn absent() -> Vec<u8> {
    http("404 Not Found", "text/plain", "no such thing here\n")
}
