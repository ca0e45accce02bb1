//! [`NamedResource`]: a resource that a request names beside its own: in a field, the destination of COPY and MOVE, or what
//! a PUT copies; in the query, the repository of a layer that a registry mounts; in the path, the objects that Google
//! Cloud Storage copies. Rules must permit each of them. Bodies that name resources are not read.

use http::{HeaderMap, HeaderValue, Method};

use super::unclear_resource::UnclearResource;
use super::{copied_objects, mounted_layers};
use crate::inject::steering::{self, SourceField};
use keyward_base::host::{Host, Target};
use keyward_base::pattern::DecodedPath;

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
        let objects = copied_objects::of_path(path)?;
        found.extend(objects.iter().map(|(method, path)| named(method, target, path)));
        if let Some(query) = query {
            let source = mounted_layers::source(path, query)?;
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
}
