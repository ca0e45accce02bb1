//! The objects that a request to Google Cloud Storage copies or moves, of which it has both in its path. The source is in
//! the bucket with which the path begins, the destination may be in any bucket.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite>

use http::Method;
use keyward_base::pattern::{DecodedPath, PathError};

/// What `POST …/b/BUCKET/o/SOURCE/rewriteTo/b/OTHER/o/DESTINATION` does at both objects, and `copyTo`, and `moveTo`, which
/// stays in the bucket: each as a method and a path. Empty for other paths. The API may be below any path.
///
/// # Errors
/// When the path of an object cannot be decided on.
pub(super) fn of_path(path: &DecodedPath) -> Result<Vec<(Method, DecodedPath)>, PathError> {
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
    use super::*;

    fn found(path: &str) -> Vec<String> {
        let found = of_path(&DecodedPath::parse(path).unwrap()).unwrap();
        found.iter().map(|(method, path)| format!("{method} {}", path.as_str())).collect()
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
                found(path).iter().map(|it| it.replace("/B/mine/O/", "/b/mine/o/")).collect();
            assert_eq!(lower, expected, "{path}");
        }
        assert_eq!(
            found("/storage/v1/b/mine/o/a%2fb/rewriteTo/b/other/o/c%2525d"),
            ["POST /storage/v1/b/other/o/c%25d", "GET /storage/v1/b/mine/o/a%2Fb"],
            "each is decoded once"
        );
        assert_eq!(
            found("/storage/v1/b/b/o/copyTo/copyTo/b/o/o/y"),
            ["POST /storage/v1/b/o/o/y", "GET /storage/v1/b/b/o/copyTo"],
        );
    }

    #[test]
    fn the_source_of_a_move_is_read_and_deleted_in_the_same_bucket() {
        assert_eq!(
            found("/storage/v1/b/mine/o/x/moveTo/o/y"),
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
            assert_eq!(found(path), Vec::<String>::new(), "{path}");
        }
    }
}
