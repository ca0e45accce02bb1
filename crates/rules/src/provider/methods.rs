//! Checks methods of HTTP in a provider file. Services have methods of their own (`PURGE`, `LIST`), so only misspelt
//! ones are refused: their actions would cover no request.

use http::Method;

use super::document::Problems;

const COMMON: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The method; reports text that is none, or that is one with its letters mixed up, in lower case, or with one too many or
/// too few.
pub(super) fn method(text: &str, at: &str, problems: &mut Problems<'_>) -> Option<Method> {
    let Ok(method) = Method::from_bytes(text.as_bytes()) else {
        problems.add(at, "this is not a method", "write GET, POST or another");
        return None;
    };
    let is_common = COMMON.contains(&text);
    if let Some(meant) = COMMON.iter().find(|common| !is_common && is_misspelt(text, common)) {
        let message = format_args!("`{text}` is not a method");
        problems.add(at, message, format_args!("did you mean `{meant}`?"));
        return None;
    }
    Some(method)
}

fn is_misspelt(text: &str, method: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<u8> = text.bytes().map(|b| b.to_ascii_uppercase()).collect();
        letters.sort_unstable();
        letters
    };
    let is_mixed_up = sorted(text) == sorted(method);
    text != method && (is_mixed_up || lacks_one(text, method) || lacks_one(method, text))
}

/// Whether `short` is `long` without one letter.
fn lacks_one(short: &str, long: &str) -> bool {
    let at = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    short.len() + 1 == long.len() && short.as_bytes()[at..] == long.as_bytes()[at + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Catalogue, check};

    #[test]
    fn misspelt_methods_are_refused_and_those_of_services_are_not() {
        for (text, meant) in [
            ("GTE", Some("GET")),
            ("get", Some("GET")),
            ("GETS", Some("GET")),
            ("PSOT", Some("POST")),
            ("POTS", Some("POST")),
            ("PTCH", Some("PATCH")),
            ("DELET", Some("DELETE")),
            ("GET", None),
            ("OPTIONS", None),
            ("PURGE", None),
            ("LIST", None),
            ("LINK", None),
            ("READ", None),
            ("SEARCH", None),
            ("QUERY", None),
            ("PROPFIND", None),
            ("MKCOL", None),
            ("UNLOCK", None),
        ] {
            let found = COMMON.iter().find(|common| is_misspelt(text, common)).copied();
            assert_eq!(found, meant, "{text}");
        }
    }

    #[test]
    fn an_action_and_a_test_with_one_are_refused_by_place() {
        let text = "id: acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: bearer }]\n\
            actions: [{ name: read, label: Read, requests: [{ methods: [GET, GTE] }] }]\n\
            test: { url: 'https://acme.test/me', method: psot }\n";
        let found = check::file("p.yaml", text, &Catalogue::built_in()).map(|_| ());
        let found = found.expect_err("it is wrong");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "p.yaml:5: actions[0].requests[0].methods[1]: `GTE` is not a method; did you mean `GET`?",
                "p.yaml:6: test.method: `psot` is not a method; did you mean `POST`?",
            ]
        );
    }
}
