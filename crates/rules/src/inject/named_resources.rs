//! [`NamedResource`]: a resource that a request names beside its own: in a field, such as the destination of COPY and MOVE,
//! in its path, or in its query. Rules must permit each of them. `named_resources.tsv` says where they are named, what is
//! done there, and how it is read. Bodies that name resources are not read.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, Method};
use regex_lite::{Captures, Regex};

use super::names::{is_alias, is_mapped, values_of};
use keyward_base::host::{Host, Target};
use keyward_base::pattern::{DecodedPath, PathError};

/// A resource that a request names beside its own, and what the request does there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedResource {
    pub target: Target,
    pub method: Method,
    pub path: DecodedPath,
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

/// The table.
#[derive(Debug, Default)]
struct Table {
    fields: Vec<Place<&'static str>>,
    paths: Vec<Place<Shape>>,
    /// What the endpoint of a storage begins with, behind the name of a bucket.
    endpoints: Vec<&'static str>,
}

/// Where requests name resources.
#[derive(Debug)]
struct Place<P> {
    at: P,
    /// The methods of the requests; empty: all.
    methods: Vec<Method>,
    acts: Vec<Act>,
}

/// What a request does with a resource.
#[derive(Debug)]
struct Act {
    /// Empty: that of the request.
    methods: Vec<Method>,
    /// How the value of a field is read, or the resource's path.
    resource: &'static str,
}

/// A shape of decoded paths.
#[derive(Debug)]
struct Shape {
    /// A text where these paths can be split, which is looked for first.
    word: &'static str,
    shape: Regex,
}

/// Two rows split a path at the first and at the last of its words. What one with more of them names is unclear.
const WORDS_MAX: usize = 2;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let table = Table::read(include_str!("named_resources.tsv"));
    table.expect("the table is sound: a test reads it")
});

/// Whether the field names a resource.
pub fn is_naming_field(name: &HeaderName) -> bool {
    TABLE.of_field(name).is_some()
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
    for name in fields.keys() {
        let Some(place) = TABLE.of_field(name) else { continue };
        let asked = place.of_requests(methods.clone());
        for value in fields.get_all(name).iter().filter(|_| !asked.is_empty()) {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| UnclearResource)?.trim();
            for act in &place.acts {
                let (target, path) = match act.resource.split_once(' ') {
                    Some((_, account)) => (target.clone(), destination(path, account, text)?),
                    None if act.resource == "object" => source_of(target, text)?,
                    None => (target.clone(), unclear_path(text)?),
                };
                act.add(&asked, &target, &path, &mut found);
            }
        }
    }
    // What is unclear in the request's path may be in the part that is read.
    let is_clear = !path.ambiguous() || path.with_slashes_in_segments().is_some();
    for place in &TABLE.paths {
        let asked = place.of_requests(methods.clone());
        let words = if asked.is_empty() { 0 } else { count(path.as_str(), place.at.word) };
        let parts = if words == 0 { None } else { place.at.shape.captures(path.as_str()) };
        let Some(parts) = parts else { continue };
        let is_clear = is_clear && words <= WORDS_MAX;
        for act in &place.acts {
            let Some(text) = filled(act.resource, &parts, query)? else { continue };
            let path = if is_clear { DecodedPath::parse(&text)? } else { unclear_path(&text)? };
            act.add(&asked, target, &path, &mut found);
        }
    }
    Ok(found)
}

impl Table {
    /// `None`: a row is none.
    fn read(text: &'static str) -> Option<Self> {
        let mut table = Self::default();
        for row in text.lines().filter(|row| !row.starts_with('#')) {
            let mut columns = row.split('\t');
            let (kind, at) = columns.next()?.split_once(' ')?;
            match kind {
                "endpoints" => table.endpoints = at.split(' ').collect(),
                "field" => table.fields.push(Place::read(at, columns)?),
                "path" => {
                    let (word, shape) = at.split_once(' ')?;
                    let shape = Regex::new(&format!("(?i)^{shape}$")).ok()?;
                    table.paths.push(Place::read(Shape { word, shape }, columns)?);
                }
                _ => return None,
            }
        }
        Some(table)
    }

    fn of_field(&self, name: &HeaderName) -> Option<&Place<&'static str>> {
        self.fields.iter().find(|place| is_named(name.as_str(), place.at))
    }
}

impl<P> Place<P> {
    fn read(at: P, mut columns: impl Iterator<Item = &'static str>) -> Option<Self> {
        let methods = |text: &str| -> Option<Vec<Method>> {
            let each = text.split(',').filter(|method| !matches!(*method, "*" | "="));
            each.map(|method| method.parse().ok()).collect()
        };
        let act = |text: &'static str| {
            let (of, resource) = text.split_once(' ')?;
            Some(Act { methods: methods(of)?, resource })
        };
        let of = methods(columns.next()?)?;
        let acts = columns.next()?.split("; ").map(act).collect::<Option<_>>()?;
        Some(Self { at, methods: of, acts })
    }

    /// Those of the methods for which a resource is named there. Case is ignored, as lenient servers do.
    fn of_requests<'a>(&self, methods: impl Iterator<Item = &'a Method>) -> Vec<&'a Method> {
        let is_of = |asked: &&Method| {
            let is_asked = |one: &Method| one.as_str().eq_ignore_ascii_case(asked.as_str());
            self.methods.is_empty() || self.methods.iter().any(is_asked)
        };
        methods.filter(is_of).collect()
    }
}

impl Act {
    /// Adds the resource at this path, for each method.
    fn add(
        &self,
        asked: &[&Method],
        target: &Target,
        path: &DecodedPath,
        found: &mut Vec<NamedResource>,
    ) {
        let own = asked.iter().copied().filter(|_| self.methods.is_empty());
        for method in self.methods.iter().chain(own) {
            let (target, path) = (target.clone(), path.clone());
            let resource = NamedResource { target, method: method.clone(), path };
            if !found.contains(&resource) {
                found.push(resource);
            }
        }
    }
}

/// Whether the field has the name in any spelling: `x-*END` is `x-END`, or has the name of a storage between the two.
fn is_named(name: &str, known: &str) -> bool {
    let Some((begin, end)) = known.split_once('*') else { return is_alias(name, known) };
    let Some(at) = name.len().checked_sub(end.len()) else { return false };
    let Some((before, found)) = name.split_at_checked(at) else { return false };
    is_alias(found, end)
        && before.get(..begin.len()).is_some_and(|before| is_alias(before, begin))
        && before.bytes().last().is_some_and(is_mapped)
}

/// The path of a destination. Servers of which the paths begin with `account` read it below the account of the request, so
/// one that does not begin as the request's path does is refused where a path decides.
fn destination(
    path: &DecodedPath,
    account: &str,
    text: &str,
) -> Result<DecodedPath, UnclearResource> {
    let found = url_path(text)?;
    let begins = |path: &DecodedPath| path.as_str().starts_with(account);
    if begins(path) && !begins(&found) { unclear_path(text) } else { Ok(found) }
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
    let begins = |at: &usize| TABLE.endpoints.iter().any(|name| host[at + 1..].starts_with(name));
    let at = host.rmatch_indices('.').map(|(at, _)| at).find(begins)?;
    Some((&host[..at], &host[at + 1..]))
}

/// How often the text has the word, in any case.
fn count(text: &str, word: &str) -> usize {
    let is_it = |part: &&[u8]| part.eq_ignore_ascii_case(word.as_bytes());
    text.as_bytes().windows(word.len()).filter(is_it).count()
}

/// The path with the parts of the request's path and the values of parameters, encoded; `None` if one is not given.
fn filled(
    resource: &str,
    parts: &Captures<'_>,
    query: Option<&str>,
) -> Result<Option<String>, UnclearResource> {
    // What servers read in other characters is not known.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":+._=-/".contains(&byte);
    let (mut words, mut is_whole) = (Vec::new(), true);
    for word in resource.split('/') {
        let Some(name) = word.strip_prefix('?') else {
            words.push(word.to_owned());
            continue;
        };
        match only(query.unwrap_or_default(), name)? {
            Some(value) if !value.bytes().all(is_plain) => return Err(UnclearResource),
            Some(value) => words.push(value),
            None => is_whole = false,
        }
    }
    let mut text = String::new();
    parts.expand(&words.join("/"), &mut text);
    // An encoded slash is still encoded.
    let text = text.replace('%', "%25").replace("%252F", "%2F").replace(';', "%3B");
    Ok(is_whole.then_some(text))
}

/// The value of a parameter that is given once; `None` if it is not given, or is empty.
fn only(query: &str, name: &str) -> Result<Option<String>, UnclearResource> {
    let mut values = values_of(query, name);
    let first = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() { Err(UnclearResource) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
        let is_unclear = |to: &'static str| {
            let path = DecodedPath::parse("/v1/AUTH_a/mine/k").unwrap();
            let target = Target::parse(Scheme::Https, "swift.test").unwrap();
            let fields = HeaderMap::from_iter([(
                HeaderName::from_static("destination"),
                HeaderValue::from_static(to),
            )]);
            let copy: Method = "COPY".parse().unwrap();
            let found = named_resources(&target, [&copy].into_iter(), &path, None, &fields);
            found.unwrap()[0].path.ambiguous()
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

    /// Each as `METHOD PATH`, for a POST.
    fn posted(path: &str, query: &str) -> Result<Vec<String>, UnclearResource> {
        let target = Target::parse(Scheme::Https, "store.test").unwrap();
        let (path, fields) = (DecodedPath::parse(path).unwrap(), HeaderMap::new());
        let post = [&Method::POST].into_iter();
        let found = named_resources(&target, post, &path, Some(query), &fields)?;
        Ok(found.iter().map(|it| format!("{} {}", it.method, it.path.as_str())).collect())
    }

    fn mounted(path: &str, query: &str) -> Result<Option<String>, UnclearResource> {
        let mounted = posted(path, query)?;
        let path = |it: &String| it.strip_prefix("GET ").expect("a layer is read").to_owned();
        Ok(mounted.first().map(path))
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
        posted(path, "").unwrap()
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

    #[test]
    fn a_path_that_can_be_split_in_two_ways_is_judged_in_both() {
        let expected = [
            "POST /b/o/o/y/copyTo/b/p/o/z",
            "GET /b/mine/o/x",
            "POST /b/p/o/z",
            "GET /b/mine/o/x/copyTo/b/o/o/y",
        ];
        assert_eq!(copied("/b/mine/o/x/copyTo/b/o/o/y/copyTo/b/p/o/z"), expected);
    }

    #[test]
    fn a_path_that_can_be_split_in_more_ways_or_has_an_empty_name_names_unclear_paths() {
        for path in [
            "/b/mine/o//moveTo/o/y",
            "/b/mine/o/x/copyTo/b/o/o/y/copyTo/b/p/o/z/copyTo/b/q/o/w",
            "/b/mine/o/x/copyTo/b/o/o/y/rewriteTo/b/p/o/z/COPYTO/b/q/o/w",
            "/b/mine/o/x/moveTo/o/y/moveTo/o/z/moveTo/o",
        ] {
            let found = copied(path);
            assert!(!found.is_empty() && found.iter().all(|it| it.contains(" ///")), "{path}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_no_table() {
        for row in [
            "destination\t*\tGET object",
            "cookie a\t*\tGET object",
            "field a\t*",
            "field a\t\tGET object",
            "field a\t*\tGET",
            "field a\t*\tGET object; POST",
            "path a (\tPOST\tGET /a",
            "path a\tPOST\tGET /a",
        ] {
            assert!(Table::read(row).is_none(), "{row}");
        }
        for act in TABLE.fields.iter().flat_map(|place| &place.acts) {
            assert!(["url /v1/", "object", "below"].contains(&act.resource), "{act:?}");
        }
        for place in &TABLE.paths {
            let names: Vec<_> = place.at.shape.capture_names().flatten().collect();
            for act in &place.acts {
                let used = act.resource.split("${").skip(1);
                let mut used = used.map(|rest| rest.split('}').next().unwrap());
                assert!(used.all(|name| names.contains(&name)), "{act:?}");
            }
        }
    }
}
