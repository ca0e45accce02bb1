//! Detects frequent mistakes in provider files, and reports the line to write instead. The file is then read as if it
//! had that line, so that its other errors are found too.

use serde_yaml::{Mapping, Value};

use super::decode::nearest;
use super::document::{Problems, item_of, key_of};
use super::extends::EXTENDS;

/// The definition without these mistakes, which are reported; `None` if it has none of them.
pub(super) fn corrected(value: &Value, path: &str, problems: &mut Problems<'_>) -> Option<Value> {
    let map = value.as_mapping()?;
    if !has_mistake(map) {
        return None;
    }
    let mut map = map.clone();
    if let Some(key) = misspelt(&map).map(str::to_owned) {
        let message = format_args!("unknown key `{key}`");
        problems.add(&key_of(path, &key), message, format_args!("did you mean `{EXTENDS}`?"));
        let id = map.remove(key.as_str()).unwrap_or_default();
        map.insert(EXTENDS.into(), id);
    }
    test(&mut map, path, problems);
    for (index, auth) in methods_mut(&mut map).enumerate() {
        let at = item_of(&key_of(path, "auth"), index);
        if let Some(place) = auth.get_mut("placement").filter(|place| place.is_string()) {
            let remedy = "write a map, such as `placement: { header: X-Api-Key }`";
            problems.add(&key_of(&at, "placement"), "this is text", remedy);
            *place = one("header", "X-Api-Key");
        }
        test(auth, &at, problems);
    }
    Some(Value::Mapping(map))
}

fn has_mistake(map: &Mapping) -> bool {
    let is_text = |map: &Mapping, key: &str| map.get(key).is_some_and(Value::is_string);
    let methods = map.get("auth").and_then(Value::as_sequence).into_iter().flatten();
    let mut methods = methods.filter_map(Value::as_mapping);
    is_text(map, "test")
        || methods.any(|auth| is_text(auth, "test") || is_text(auth, "placement"))
        || misspelt(map).is_some()
}

fn methods_mut(map: &mut Mapping) -> impl Iterator<Item = &mut Mapping> {
    let list = map.get_mut("auth").and_then(Value::as_sequence_mut).into_iter().flatten();
    // Others are reported where they are read.
    list.filter_map(Value::as_mapping_mut)
}

/// A key that is nearly `extends`: without it, all that the other provider has would seem to be missing.
fn misspelt(map: &Mapping) -> Option<&str> {
    // Filters by length first, because `nearest` is slower.
    let may_be = |key: &str| key.len().abs_diff(EXTENDS.len()) <= 1 + key.len() / 4;
    let is_near = |key: &&str| may_be(key) && nearest(key, [EXTENDS]).is_some();
    match map.contains_key(EXTENDS) {
        true => None,
        false => map.keys().filter_map(Value::as_str).find(is_near),
    }
}

fn test(map: &mut Mapping, path: &str, problems: &mut Problems<'_>) {
    let Some(test) = map.get_mut("test") else { return };
    let Some(url) = test.as_str().map(str::to_owned) else { return };
    let remedy = "write a map, such as `test: { url: \"https://api.acme.example/me\" }`";
    problems.add(&key_of(path, "test"), "this is text", remedy);
    *test = one("url", &url);
}

fn one(key: &str, text: &str) -> Value {
    Value::Mapping(Mapping::from_iter([(key.into(), text.into())]))
}

#[cfg(test)]
mod tests {
    use crate::provider::{Catalogue, check};

    /// Whole files with their only errors.
    const FILES: &[(&str, &str)] = &[
        (
            "id: corp-git\nname: Corp\nextend: github\nhosts: [git.corp.example]\n",
            "p.yaml:3: extend: unknown key `extend`; did you mean `extends`?",
        ),
        (
            "id: corp-git\nname: Corp\nextends: githib\nhosts: [git.corp.example]\n",
            "p.yaml:3: extends: `githib` is not a built-in provider; did you mean `github`?",
        ),
        (
            "id: corp-git\nname: Corp\nextends: github\nhosts: [https://git2.corp.example/]\n",
            "p.yaml:4: hosts[0]: `https://git2.corp.example/` is a URL, not a host; write \
             `git2.corp.example`, without `https://`",
        ),
        (
            "id: corp-git\nname: Corp\nextends: github\nhosts: ['{region}.corp.example']\n",
            "p.yaml:4: hosts[0]: `{region}.corp.example` uses variable `region`, which is not declared \
             under `variables`; add `variables: [{ name: region }]`",
        ),
        (
            "id: acme\nname: Acme\nhosts: [https://api.acme.test/v1]\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:3: hosts[0]: `https://api.acme.test/v1` is a URL, not a host; write `api.acme.test`, \
             without `https://`; paths are listed in `paths`",
        ),
        (
            "id: acme\nname: Acme\nhosts: ['{host}']\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:3: hosts[0]: `{host}` uses variable `host`, which is not declared under \
             `variables`; add `variables: [{ name: host, kind: host }]`",
        ),
        (
            "id: acme\nname: Acme\nhosts: [{region}]\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:3: hosts[0]: this is a map; write text, in quotes if it has `{`",
        ),
        (
            "id: acme\nname: Acme\nhosts: [{region}.acme.test]\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:3: not YAML: while parsing a flow sequence, expected ',' or ']'; quote text that has \
             `{`: `\"{region}.api.acme.example\"`",
        ),
        (
            "id: acme\nname: Acme: Tickets\nhosts: [acme.test]\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:2: not YAML: mapping values are not allowed in this context; quote text that has \
             `: `: `\"Acme: Tickets\"`",
        ),
        (
            "id: acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: apikey, placement: { header: X-K } }]\n",
            "p.yaml:4: auth[0].kind: `apikey` is not one of the choices; did you mean `api_key`?",
        ),
        (
            "id: acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: api_key, placement: X-Acme-Key }]\n",
            "p.yaml:4: auth[0].placement: this is text; write a map, such as `placement: { header: X-Api-Key }`",
        ),
        (
            "id: acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: bearer }]\ntest: https://acme.test/me\n",
            "p.yaml:5: test: this is text; write a map, such as `test: { url: \"https://api.acme.example/me\" }`",
        ),
        (
            "id: My Acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: bearer }]\n",
            "p.yaml:1: id: `My Acme` is not an id; write 1 to 64 lower-case letters, digits and hyphens",
        ),
    ];

    #[test]
    fn a_frequent_mistake_is_reported_with_its_correction() {
        for (text, told) in FILES {
            let found = check::file("p.yaml", text, &Catalogue::built_in()).map(|_| ());
            let found = found.expect_err(text);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, [*told], "{text}");
        }
    }

    #[test]
    fn a_mistake_hides_no_other_error() {
        let text = "id: acme\nname: Acme\nhosts: [acme.test]\nauth:\n- { id: k, kind: api_key, placement: X, nope: 1 }\n\
                    - { id: l, kind: bearer, test: 'http://acme.test/' }\n";
        let found = check::file("p.yaml", text, &Catalogue::built_in()).map(|_| ());
        let found = found.expect_err("it is wrong").into_iter();
        let places: Vec<_> =
            found.map(|problem| (problem.line.unwrap_or(0), problem.path)).collect();
        for (line, path) in [
            (5, "auth[0].placement"),
            (5, "auth[0].nope"),
            (6, "auth[1].test"),
            (6, "auth[1].test.url"),
        ] {
            assert!(places.contains(&(line, path.to_owned())), "{path}: {places:?}");
        }
        assert_eq!(places.len(), 4, "{places:?}");
    }
}
