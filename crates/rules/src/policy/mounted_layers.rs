//! The repository from which a request to a container registry mounts a layer. A registry answers with what an upload of
//! the layer would have done, so the request needs what reading the layer there needs.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#mounting-a-blob-from-another-repository>

use super::unclear_resource::UnclearResource;
use crate::actions::values_of;
use keyward_base::pattern::DecodedPath;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(path: &str, query: &str) -> Result<Option<String>, UnclearResource> {
        let found = source(&DecodedPath::parse(path).unwrap(), query)?;
        Ok(found.map(|path| path.as_str().to_owned()))
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
}
