//! [`NamedResource`]: a resource that a request names beside its own: in a field, the destination of COPY and MOVE, or
//! what a PUT copies; in the query, the repository of a layer that a registry mounts; in the path, the objects that
//! Google Cloud Storage copies. Rules must permit each of them. Bodies that name resources are not read.
//!
//! A registry answers with what an upload of the layer would have done, so the request needs what reading the layer
//! there needs:
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository>. Of
//! Google Cloud Storage, the source is in the bucket with which the path begins, the destination may be in any bucket:
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite>.

use http::{HeaderMap, HeaderValue, Method};

use crate::actions::values_of;
use crate::inject::steering::{self, SourceField};
use keyward_base::host::{Host, Target};
use keyward_base::pattern::{DecodedPath, PathError};

/// What the endpoint of a storage begins with, behind the name of a bucket: S3, Google Cloud Storage, and those of
/// Alibaba, Tencent and Huawei.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>
const ENDPOINTS: [&str; 7] =
    ["s3.", "s3-", "s3express-", "storage.googleapis.com", "oss-", "cos.", "obs."];

/// A resource that a request names beside its own, and what the request does there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedResource {
    pub(super) target: Target,
    pub(super) method: Method,
    pub(super) path: DecodedPath,
}

/// The resources that path, query and `fields` name; usually none. `methods` are all that a server may apply.
///
/// # Errors
/// When the path of one cannot be decided on.
pub fn named_resources<'a>(
    target: &Target,
    methods: impl Iterator<Item = &'a Method> + Clone,
    path: &DecodedPath,
    query: Option<&str>,
    fields: &HeaderMap,
) -> Result<Vec<NamedResource>, UnclearResource> {
    let mut found = Vec::new();
    let named = |method: &Method, target: &Target, path: &DecodedPath| NamedResource {
        target: target.clone(),
        method: method.clone(),
        path: path.clone(),
    };
    for name in fields.keys() {
        if steering::is_destination_field(name) {
            for method in methods.clone().filter(|method| has_destination(method)) {
                for value in fields.get_all(name) {
                    found.push(named(method, target, &destination(path, text(value)?)?));
                }
            }
        } else if let Some(source) = steering::source_field(name) {
            for value in fields.get_all(name) {
                let text = text(value)?;
                let (target, path) = match source {
                    SourceField::Relative => (target.clone(), unclear_path(text)?),
                    SourceField::Copied | SourceField::Renamed => source_of(target, text)?,
                };
                found.extend(source.methods().iter().map(|method| named(method, &target, &path)));
            }
        }
    }
    let is_post = |method: &Method| method.as_str().eq_ignore_ascii_case("POST");
    if methods.clone().any(is_post) {
        let objects = of_path(path)?;
        found.extend(objects.iter().map(|(method, path)| named(method, target, path)));
        if let Some(query) = query {
            let source = source(path, query)?;
            found.extend(source.map(|path| named(&Method::GET, target, &path)));
        }
    }
    Ok(found)
}

/// Whether WebDAV has a destination for the method (RFC 4918 §10.3). Case is ignored, as lenient servers do.
fn has_destination(method: &Method) -> bool {
    ["COPY", "MOVE"].iter().any(|other| other.eq_ignore_ascii_case(method.as_str()))
}

/// The path of a destination. OpenStack Swift reads it below `/v1/ACCOUNT`, with which its paths begin, so one that does not
/// begin as the request's path does there is refused where a path decides.
/// <https://docs.openstack.org/api-ref/object-store/#copy-object>
fn destination(path: &DecodedPath, text: &str) -> Result<DecodedPath, UnclearResource> {
    let found = url_path(text)?;
    let is_version = |path: &DecodedPath| path.as_str().starts_with("/v1/");
    match is_version(path) && !is_version(&found) {
        true => unclear_path(text),
        false => Ok(found),
    }
}

/// The path of a URL or of a reference without a host. The host is not compared: servers ignore it, or refuse another
/// one than their own.
fn url_path(text: &str) -> Result<DecodedPath, UnclearResource> {
    if text.contains('\\') {
        return Err(UnclearResource);
    }
    let path = after_host(text).unwrap_or(text);
    if path.is_empty() || path.starts_with('/') && !path.contains(['?', '#']) {
        return Ok(DecodedPath::parse(path)?);
    }
    // Servers differ in what a relative path begins at, and in where a query or fragment begins.
    unclear_path(path)
}

/// A path that is refused where a path decides: an empty segment makes it ambiguous.
fn unclear_path(text: &str) -> Result<DecodedPath, UnclearResource> {
    Ok(DecodedPath::parse(&format!("//{text}"))?)
}

/// What follows the host of a URL; `None` for a reference without a scheme.
fn after_host(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://").filter(|(scheme, _)| !scheme.contains('/'))?;
    Some(&rest[rest.find(['/', '?', '#']).unwrap_or(rest.len())..])
}

/// The source of a copy, `[/]BUCKET/KEY` or a URL, at the host that has it when the request's own host names its bucket.
fn source_of(target: &Target, text: &str) -> Result<(Target, DecodedPath), UnclearResource> {
    // It may have a version or a signature.
    let text = text.split('?').next().unwrap_or(text);
    if after_host(text).is_some() {
        return Ok((target.clone(), url_path(text)?));
    }
    let text = text.strip_prefix('/').unwrap_or(text);
    let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
    let whole = || DecodedPath::parse(&format!("/{text}"));
    let Some((own, endpoint)) = target.host().name().and_then(bucket_and_endpoint) else {
        return Ok((target.clone(), whole()?));
    };
    let at = |host: &str| {
        Host::parse(host).map(|host| Target::new(target.scheme(), host, target.port()))
    };
    match at(&format!("{bucket}.{endpoint}")) {
        Ok(_) if bucket.eq_ignore_ascii_case(own) => {
            Ok((target.clone(), DecodedPath::parse(&format!("/{key}"))?))
        }
        Ok(other) => Ok((other, DecodedPath::parse(&format!("/{key}"))?)),
        // An access point has an ARN, which is in no host.
        Err(_) => Ok((at(endpoint).unwrap_or_else(|_| target.clone()), whole()?)),
    }
}

/// The bucket and the endpoint in `BUCKET.s3.eu-west-1.amazonaws.com`. A bucket may have dots.
fn bucket_and_endpoint(host: &str) -> Option<(&str, &str)> {
    let begins = |at: &usize| ENDPOINTS.iter().any(|name| host[at + 1..].starts_with(name));
    let at = host.rmatch_indices('.').map(|(at, _)| at).find(begins)?;
    Some((&host[..at], &host[at + 1..]))
}

fn text(value: &HeaderValue) -> Result<&str, UnclearResource> {
    std::str::from_utf8(value.as_bytes()).map(str::trim).map_err(|_| UnclearResource)
}

/// The path of a named resource cannot be decided on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct UnclearResource;

impl UnclearResource {
    /// What is wrong with the request.
    pub const TEXT: &str = "a field or a parameter names another resource by a path with dot segments, a backslash, a \
                            control byte or invalid UTF-8, or a layer's repository in two ways";
}

impl From<PathError> for UnclearResource {
    fn from(_: PathError) -> Self {
        Self
    }
}

/// The layer that `POST /v2/NAME/blobs/uploads/?mount=DIGEST&from=OTHER` mounts; `None` for other requests. A registry
/// may be below a path. Without `from`, the registry chooses the repository.
///
/// # Errors
/// When servers may read different repositories or layers, or what is named is none.
pub(super) fn source(
    path: &DecodedPath,
    query: &str,
) -> Result<Option<DecodedPath>, UnclearResource> {
    let Some(api) = api_of_uploads(path) else { return Ok(None) };
    let (Some(layer), Some(repository)) = (only(query, "mount")?, only(query, "from")?) else {
        return Ok(None);
    };
    let is_digest = |byte: u8| byte.is_ascii_alphanumeric() || b":+._=-".contains(&byte);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if !layer.bytes().all(is_digest) || !repository.bytes().all(is_name) {
        return Err(UnclearResource);
    }
    Ok(Some(DecodedPath::parse(&format!("{api}/{repository}/blobs/{layer}"))?))
}

/// What precedes the repository's name in the path of its uploads, such as `/v2`.
fn api_of_uploads(path: &DecodedPath) -> Option<String> {
    if !path.as_str().contains("uploads") {
        return None;
    }
    // Servers read an encoded slash as a slash, and remove empty segments.
    let text = path.as_str().replace("%2F", "/");
    let segments: Vec<&str> = text.split('/').filter(|segment| !segment.is_empty()).collect();
    let [api @ .., "blobs", "uploads"] = &segments[..] else { return None };
    let end = api.iter().position(|segment| *segment == "v2")?;
    Some(format!("/{}", api[..=end].join("/")))
}

/// The value of a parameter that is given once; `None` if it is not given, or is empty.
fn only(query: &str, name: &str) -> Result<Option<String>, UnclearResource> {
    let mut values = values_of(query, name);
    let first = values.next().filter(|value| !value.is_empty());
    match values.next() {
        None => Ok(first),
        Some(_) => Err(UnclearResource),
    }
}

/// What `POST …/b/BUCKET/o/SOURCE/rewriteTo/b/OTHER/o/DESTINATION` does at both objects, and `copyTo`, and `moveTo`, which
/// stays in the bucket: each as a method and a path. Empty for other paths. The API may be below any path.
///
/// # Errors
/// When the path of an object cannot be decided on.
fn of_path(path: &DecodedPath) -> Result<Vec<(Method, DecodedPath)>, PathError> {
    if !path.as_str().split('/').any(|segment| segment.eq_ignore_ascii_case("b")) {
        return Ok(vec![]);
    }
    let written: Vec<&str> = path.raw().split('/').collect();
    // An encoded slash stays encoded, so both have the same segments.
    let decoded: Vec<&str> = path.as_str().split('/').collect();
    let is =
        |at: usize, word: &str| decoded.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word));
    let Some(bucket) = (0..decoded.len()).find(|&at| is(at, "b") && is(at + 2, "o")) else {
        return Ok(vec![]);
    };
    let joined = |parts: &[&[&str]]| DecodedPath::parse(&parts.concat().join("/"));
    let mut found = Vec::new();
    for verb in bucket + 4..written.len() {
        let (source, target) = (&written[..verb], &written[verb + 1..]);
        if (is(verb, "rewriteTo") || is(verb, "copyTo")) && is(verb + 1, "b") && is(verb + 3, "o") {
            found.push((Method::POST, joined(&[&written[..bucket], target])?));
        } else if is(verb, "moveTo") && is(verb + 1, "o") {
            found.push((Method::POST, joined(&[&written[..bucket + 2], target])?));
            found.push((Method::DELETE, joined(&[source])?));
        } else {
            continue;
        }
        found.push((Method::GET, joined(&[source])?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use keyward_base::host::Scheme;

    /// Each resource as `METHOD URL`, for `HOST METHOD` and a field.
    fn found(line: &str, name: &'static str, value: &str) -> Result<Vec<String>, UnclearResource> {
        let (method, host) = line.split_once(' ').unwrap();
        let target = Target::parse(Scheme::Https, host).unwrap();
        let method: Method = method.parse().unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let fields = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
        let path = DecodedPath::parse("/").unwrap();
        let found = named_resources(&target, [&method].into_iter(), &path, None, &fields)?;
        let shown = |it: &NamedResource| {
            let unclear = if it.path.ambiguous() { " ambiguous" } else { "" };
            format!("{} {}{}{unclear}", it.method, it.target.authority(), it.path.as_str())
        };
        Ok(found.iter().map(shown).collect())
    }

    #[test]
    fn the_destination_of_copy_and_move_is_found_in_every_form() {
        for (value, path) in [
            ("/b/c", "/b/c"),
            ("https://dav.test/b%20c", "/b c"),
            ("http://other.test:8443/b", "/b"),
            ("https://dav.test", "/"),
            (" /b/ ", "/b/"),
            ("/b;x", "/b;x ambiguous"),
            ("//dav.test/b", "//dav.test/b ambiguous"),
            ("b/c", "//b/c ambiguous"),
            ("/b/c://dav.test/d", "/b/c://dav.test/d ambiguous"),
            ("/b?x", "///b?x ambiguous"),
            ("http://dav.test/b#x", "///b#x ambiguous"),
            ("http://dav.test?x/b", "//?x/b ambiguous"),
            ("http:/b", "//http:/b ambiguous"),
        ] {
            for method in ["MOVE", "copy"] {
                let line = format!("{method} dav.test");
                let expected = vec![format!("{method} dav.test{path}")];
                assert_eq!(found(&line, "destination", value), Ok(expected), "{value}");
            }
        }
        for value in
            ["/a/../b", "/a%5cb", "/%ff", "/a/%2e%2e/b", "../b", "/a?/../b", "http://dav.test\\b"]
        {
            assert_eq!(
                found("MOVE dav.test", "destination", value),
                Err(UnclearResource),
                "{value}"
            );
        }
        for method in ["GET", "PUT", "LOCK"] {
            let line = format!("{method} dav.test");
            assert_eq!(
                found(&line, "destination", "../b"),
                Ok(vec![]),
                "{method}: another meaning"
            );
        }
    }

    #[test]
    fn a_destination_below_the_account_of_the_request_has_an_unclear_path() {
        let is_unclear = |to: &str| {
            let path = DecodedPath::parse("/v1/AUTH_a/mine/k").unwrap();
            destination(&path, to).unwrap().ambiguous()
        };
        assert!(is_unclear("/secret/k") && is_unclear("secret/k"));
        assert!(!is_unclear("/v1/files/k"), "it is another path of a server of WebDAV");
    }

    #[test]
    fn the_source_of_a_copy_is_read_at_the_host_of_its_bucket() {
        for (host, value, expected) in [
            ("s3.eu-west-1.amazonaws.com", "b/k/l", "s3.eu-west-1.amazonaws.com/b/k/l"),
            ("minio.test:9000", "/b/k%20l?versionId=x", "minio.test:9000/b/k l"),
            ("mine.s3.eu-west-1.amazonaws.com", "mine/k", "mine.s3.eu-west-1.amazonaws.com/k"),
            ("mine.s3.amazonaws.com", "/b.c/k/l", "b.c.s3.amazonaws.com/k/l"),
            ("a.s3.b.s3.amazonaws.com", "c/k", "c.s3.amazonaws.com/k"),
            ("mine.storage.googleapis.com", "b/k", "b.storage.googleapis.com/k"),
            (
                "mine.s3.amazonaws.com",
                "arn:aws:s3:r:1:accesspoint/p/object/k",
                "s3.amazonaws.com/arn:aws:s3:r:1:accesspoint/p/object/k",
            ),
            (
                "a.blob.core.windows.net",
                "https://a-secondary.blob.core.windows.net/c/k?sig=x",
                "a.blob.core.windows.net/c/k",
            ),
        ] {
            for name in [
                "x-amz-copy-source",
                "x_ms-copy_source",
                "x-bce-copy-source",
                "x-tos-copy-source",
                "x.kss.copy.source",
            ] {
                let line = format!("PUT {host}");
                assert_eq!(
                    found(&line, name, value),
                    Ok(vec![format!("GET {expected}")]),
                    "{value}"
                );
            }
        }
        let renamed = found("PUT a.dfs.core.windows.net", "x-ms-rename-source", "/fs/k");
        let expected =
            ["GET", "DELETE"].map(|method| format!("{method} a.dfs.core.windows.net/fs/k"));
        assert_eq!(renamed, Ok(expected.to_vec()), "it is read, and is gone afterwards");
        let file = "https://a.file.core.windows.net/s/k?sig=x";
        let renamed = found("PUT a.file.core.windows.net", "x-ms-file-rename-source", file);
        let expected =
            ["GET", "DELETE"].map(|method| format!("{method} a.file.core.windows.net/s/k"));
        assert_eq!(renamed, Ok(expected.to_vec()));
        assert_eq!(found("PUT s3.test", "x-amz-copy-source", "b/../k"), Err(UnclearResource));
        for name in ["x-amz-copy-source-range", "copy-source", "xcopy-source", "x-recopy-source"] {
            assert_eq!(found("PUT s3.test", name, "b/../k"), Ok(vec![]), "{name}");
        }
    }

    #[test]
    fn an_object_that_a_field_names_below_the_account_or_bucket_has_an_unclear_path() {
        for name in [
            "x-copy-from",
            "x_object_manifest",
            "x-symlink-target",
            "x-oss-symlink-target",
            "x-bce-symlink-target",
            "x-tos-symlink_target",
        ] {
            for (value, path) in [("/c/k%20l", "///c/k l"), ("k", "//k")] {
                let expected = format!("GET store.test{path} ambiguous");
                assert_eq!(found("PUT store.test", name, value), Ok(vec![expected]), "{name}");
            }
            assert_eq!(found("PUT store.test", name, "../k"), Err(UnclearResource), "{name}");
        }
    }

    fn mounted(path: &str, query: &str) -> Result<Option<String>, UnclearResource> {
        let mounted = source(&DecodedPath::parse(path).unwrap(), query)?;
        Ok(mounted.map(|path| path.as_str().to_owned()))
    }

    #[test]
    fn a_layer_is_mounted_from_the_repository_of_the_parameter_in_every_spelling() {
        let layer = Ok(Some("/v2/team/secret/blobs/sha256:1f".to_owned()));
        for path in ["/v2/mine/blobs/uploads/", "/v2/a/b/blobs/uploads", "/v2/a%2fblobs%2Fuploads"]
        {
            for query in [
                "mount=sha256:1f&from=team/secret",
                "mount=sha256%3A1f&from=team%2Fsecret",
                "from=team%2fsecret&digest=x&mount=sha256:1f",
                "%66rom=team/secret&mount=sha256:1f",
                "From=team/secret&MOUNT=sha256:1f",
                "mount=sha256:1f;from=team/secret",
            ] {
                assert_eq!(mounted(path, query), layer, "{path} {query}");
            }
        }
        let below = mounted("/docker/v2/a/blobs/uploads", "mount=sha256:1f&from=v2/b");
        assert_eq!(below, Ok(Some("/docker/v2/v2/b/blobs/sha256:1f".to_owned())));
    }

    #[test]
    fn what_registries_may_read_in_two_ways_is_refused() {
        for query in [
            "mount=sha256:1f&from=a&from=b",
            "mount=sha256:1f&mount=sha256:2f&from=a",
            "mount=sha256:1f&from=a;from=b",
            "mount=sha256:1f&from=a/../b",
            "mount=sha256:1f&from=..",
            "mount=sha256:1f&from=a%252fb",
            "mount=sha256:1f&from=a%3Fb",
            "mount=../a&from=b",
        ] {
            let refused = mounted("/v2/mine/blobs/uploads/", query);
            assert_eq!(refused, Err(UnclearResource), "{query}");
        }
    }

    #[test]
    fn other_requests_mount_nothing() {
        for (path, query) in [
            ("/v2/mine/blobs/uploads/", ""),
            ("/v2/mine/blobs/uploads/", "from=a"),
            ("/v2/mine/blobs/uploads/", "mount=sha256:1f"),
            ("/v2/mine/blobs/uploads/", "mount=sha256:1f&from="),
            ("/v2/mine/blobs/uploads/7f1c", "mount=sha256:1f&from=a"),
            ("/v2/mine/manifests/latest", "mount=sha256:1f&from=a"),
            ("/blobs/uploads", "mount=a&from=b"),
            ("/v1/a/blobs/uploads", "mount=a&from=a&from=b"),
        ] {
            assert_eq!(mounted(path, query), Ok(None), "{path} {query}");
        }
    }

    fn copied(path: &str) -> Vec<String> {
        let copied = of_path(&DecodedPath::parse(path).unwrap()).unwrap();
        copied.iter().map(|(method, path)| format!("{method} {}", path.as_str())).collect()
    }

    #[test]
    fn both_objects_of_a_copy_are_found_in_every_spelling() {
        let expected = ["POST /storage/v1/b/other/o/y", "GET /storage/v1/b/mine/o/x"];
        for path in [
            "/storage/v1/b/mine/o/x/rewriteTo/b/other/o/y",
            "/storage/v1/b/mine/o/x/copyTo/b/other/o/y",
            "/storage/v1/%62/mine/o/x/rewrite%54o/b/oth%65r/%6f/y",
            "/storage/v1/B/mine/O/x/REWRITETO/b/other/o/y",
        ] {
            let lower: Vec<_> =
                copied(path).iter().map(|it| it.replace("/B/mine/O/", "/b/mine/o/")).collect();
            assert_eq!(lower, expected, "{path}");
        }
        assert_eq!(
            copied("/storage/v1/b/mine/o/a%2fb/rewriteTo/b/other/o/c%2525d"),
            ["POST /storage/v1/b/other/o/c%25d", "GET /storage/v1/b/mine/o/a%2Fb"],
            "each is decoded once"
        );
        assert_eq!(
            copied("/storage/v1/b/b/o/copyTo/copyTo/b/o/o/y"),
            ["POST /storage/v1/b/o/o/y", "GET /storage/v1/b/b/o/copyTo"],
        );
    }

    #[test]
    fn the_source_of_a_move_is_read_and_deleted_in_the_same_bucket() {
        assert_eq!(
            copied("/storage/v1/b/mine/o/x/moveTo/o/y"),
            [
                "POST /storage/v1/b/mine/o/y",
                "DELETE /storage/v1/b/mine/o/x",
                "GET /storage/v1/b/mine/o/x"
            ]
        );
    }

    #[test]
    fn other_paths_name_no_objects() {
        for path in [
            "/",
            "*",
            "/storage/v1/b/mine/o/x",
            "/storage/v1/b/mine/o/rewriteTo/b/other/o/y",
            "/storage/v1/b/mine/o/x/rewriteTo",
            "/storage/v1/b/mine/o/x/rewriteTo/b/other",
            "/storage/v1/b/mine/o/x/compose",
            "/v4/spreadsheets/s/sheets/0/copyTo/b/other/o/y",
        ] {
            assert_eq!(copied(path), Vec::<String>::new(), "{path}");
        }
    }
}
