//! `extends: ID`: an own provider with the definition of a built-in one, usually at other hosts, such as a GitHub
//! Enterprise Server. Its own keys replace those of the built-in one; hosts are replaced at each place.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::built_in::{self, FILES};
use super::decode::nearest;
use super::document::{Document, Problems, key_of};

/// The key of an own provider that names the other.
pub(super) const EXTENDS: &str = "extends";
/// The key of a built-in provider with the paths of its hosts on a server that has only one host.
const ONE_HOST: &str = "one_host";

/// Where a host of the built-in provider is for the own one.
#[derive(Debug)]
struct HostMove {
    host: String,
    /// The paths below which its paths are; empty: they stay.
    below: Vec<String>,
}

/// The whole definition of a provider with `extends`; `None` for others, and after an error.
pub(super) fn extended(own: &Value, path: &str, problems: &mut Problems<'_>) -> Option<Value> {
    let id = own.get(EXTENDS)?;
    let at = key_of(path, EXTENDS);
    let Some(file) = id.as_str().and_then(built_in::file) else {
        let known = FILES.iter().map(|file| file.id);
        let near = id.as_str().and_then(|id| Some((id, nearest(id, known)?)));
        match near {
            Some((id, near)) => {
                let message = format_args!("`{id}` is not a built-in provider");
                problems.add(&at, message, format_args!("did you mean `{near}`?"));
            }
            None => {
                let remedy = "name one of `keyward provider list`";
                problems.add(&at, "this is not a built-in provider", remedy);
            }
        }
        return None;
    };
    let base = Document::parse("catalogue", file.text)
        .expect("built-in files are sound: a test reads them");
    let mut base = base.root().as_mapping().expect("a built-in file is a map").clone();
    let moves = match own.get("hosts") {
        Some(hosts) => match moves(&base, hosts) {
            Ok(moves) => moves,
            Err(message) => {
                let remedy = "list as many hosts, in the same order";
                problems.add(&key_of(path, "hosts"), message, remedy);
                return None;
            }
        },
        None => BTreeMap::new(),
    };
    base.remove(ONE_HOST);
    let mut whole = moved(&Value::Mapping(base), &moves);
    let Value::Mapping(whole_map) = &mut whole else { return None };
    for (key, value) in own.as_mapping()?.iter().filter(|(key, _)| *key != EXTENDS) {
        whole_map.insert(key.clone(), value.clone());
    }
    Some(whole)
}

/// Where each host of `base` is: all on one host as the file says, or one by one.
fn moves(base: &Mapping, to: &Value) -> Result<BTreeMap<String, HostMove>, String> {
    let (from, to) = (texts(base.get("hosts")), texts(Some(to)));
    let below = base.get(ONE_HOST).and_then(Value::as_mapping);
    if let (Some(below), [host]) = (below, to.as_slice()) {
        let paths = |of: &str| -> Vec<String> {
            texts(below.get(of)).into_iter().filter(|path| !path.is_empty()).collect()
        };
        let moved = |of: String| (of.clone(), HostMove { host: host.clone(), below: paths(&of) });
        return Ok(from.into_iter().map(moved).collect());
    }
    if from.len() != to.len() {
        return Err(format!(
            "`{}` has {} hosts ({})",
            word(base, "id"),
            from.len(),
            from.join(", ")
        ));
    }
    let one = |(of, host)| (of, HostMove { host, below: Vec::new() });
    Ok(from.into_iter().zip(to).map(one).collect())
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_sequence).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn word<'a>(map: &'a Mapping, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The tree with each host replaced: in lists of hosts, with their paths, and in URLs.
fn moved(value: &Value, moves: &BTreeMap<String, HostMove>) -> Value {
    match value {
        Value::Mapping(map) => {
            let mut found: Mapping =
                map.iter().map(|(key, value)| (key.clone(), moved(value, moves))).collect();
            for key in ["hosts", "git"] {
                if let Some(list) = map.get(key) {
                    found.insert(key.into(), hosts(&texts(Some(list)), moves).into());
                }
            }
            if let Some(paths) =
                map.get("hosts").and_then(|list| paths(&texts(Some(list)), map.get("paths"), moves))
            {
                found.insert("paths".into(), paths.into());
            }
            Value::Mapping(found)
        }
        Value::Sequence(items) => items.iter().map(|item| moved(item, moves)).collect(),
        Value::String(text) => Value::String(url(text, moves)),
        other => other.clone(),
    }
}

/// The hosts at their new places, each once.
fn hosts(of: &[String], moves: &BTreeMap<String, HostMove>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for host in of {
        let host = moves.get(host).map_or(host, |to| &to.host);
        if !found.contains(host) {
            found.push(host.clone());
        }
    }
    found
}

/// The paths of a scope with `hosts`; `None` if they stay. A host whose paths stay and that had no paths keeps all,
/// so that the scope has none.
fn paths(
    hosts: &[String],
    paths: Option<&Value>,
    moves: &BTreeMap<String, HostMove>,
) -> Option<Vec<String>> {
    let below: Vec<&[String]> =
        hosts.iter().filter_map(|host| Some(moves.get(host)?.below.as_slice())).collect();
    // The provider itself lists all its hosts, and its paths are those of all.
    if below.iter().all(|below| below.is_empty()) || below.len() == moves.len() {
        return None;
    }
    let old = texts(paths);
    let mut found = Vec::new();
    for below in below {
        match (below, old.as_slice()) {
            ([], []) => return None,
            ([], old) => found.extend(old.iter().cloned()),
            (below, []) => {
                found.extend(below.iter().flat_map(|it| [it.clone(), format!("{it}/**")]));
            }
            (below, old) => {
                let each =
                    |it: &String| old.iter().map(|path| format!("{it}{path}")).collect::<Vec<_>>();
                found.extend(below.iter().flat_map(each));
            }
        }
    }
    Some(found)
}

/// A URL on one of the hosts at its new place; other texts stay.
fn url(text: &str, moves: &BTreeMap<String, HostMove>) -> String {
    let Some(rest) = text.strip_prefix("https://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match moves.get(authority) {
        Some(HostMove { host, below }) => {
            format!("https://{host}{}{path}", below.first().map_or("", String::as_str))
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Catalogue, Provider, check};
    use super::*;
    use crate::inject::placement::Place;
    use keyward_base::host::{Scheme, Target};
    use keyward_base::pattern::DecodedPath;

    const ENTERPRISE: &str =
        "id: corp-git\nname: Corp GitHub\nextends: github\nhosts: [github.corp.example]\n";

    fn read(text: &str) -> Result<Provider, Vec<String>> {
        let found = check::file("p.yaml", text, &Catalogue::built_in());
        found
            .map(|mut all| all.remove(0))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn written(provider: &Provider, path: &str) -> Option<Vec<Place>> {
        let instance = provider.instantiate(&provider.auth[0], &BTreeMap::new()).unwrap();
        let target = Target::parse(Scheme::Https, "github.corp.example").unwrap();
        let path = DecodedPath::parse(path).unwrap();
        let scope = instance.placements.iter().find(|scope| scope.matches(&target, &path));
        scope.map(|scope| scope.what.clone())
    }

    #[test]
    fn an_enterprise_server_has_all_of_github_on_its_one_host() {
        let corp = read(ENTERPRISE).unwrap();
        let hosts: Vec<String> = corp.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["github.corp.example"]);
        let at_github = Catalogue::built_in();
        let at_github = at_github.get("github").unwrap();
        let scopes = &at_github.auth[0].placements;
        let (bearer, basic) = (&scopes[0].places, &scopes[1].places);
        for path in ["/api/v3/user", "/api/graphql", "/api/uploads/repos/a/b", "/raw/a/b"] {
            assert_eq!(written(&corp, path).as_ref(), Some(bearer), "{path}");
        }
        for path in ["/o/r/info/refs", "/o/r.git/git-upload-pack", "/gist/1/info/refs"] {
            assert_eq!(written(&corp, path).as_ref(), Some(basic), "{path}");
        }
        for path in ["/", "/login", "/o/r/settings", "/api", "/user"] {
            assert_eq!(written(&corp, path), None, "{path}: the website gets no credential");
        }
        let test = corp.about.test.as_ref().unwrap();
        assert_eq!(test.url, "https://github.corp.example/api/v3/user");
        assert_eq!(
            corp.about.key_url.as_deref(),
            Some("https://github.corp.example/settings/tokens")
        );
        let token = |id: &str| corp.auth(Some(id)).unwrap().oauth.as_ref().unwrap().token.clone();
        let app = token("oauth_app").unwrap();
        assert_eq!(app.as_str(), "https://github.corp.example/login/oauth/access_token");
        let endpoint = DecodedPath::parse("/login/oauth/access_token").unwrap();
        assert!(corp.oauth_endpoints.iter().any(|(_, path)| path.matches(&endpoint)), "carved out");
    }

    #[test]
    fn one_host_is_enough_for_a_provider_with_hosts_in_several_regions() {
        let text = "id: corp-llm\nname: Corp\nextends: openai\nhosts: [llm.corp.example]\n";
        let corp = read(text).unwrap();
        let hosts: Vec<String> = corp.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["llm.corp.example"]);
        let test = corp.about.test.as_ref().unwrap();
        assert_eq!(test.url, "https://llm.corp.example/v1/models");
    }

    #[test]
    fn an_extension_with_other_hosts_keeps_no_original_host() {
        let corp = read(ENTERPRISE).unwrap();
        let instance = corp.instantiate(&corp.auth[0], &BTreeMap::new()).unwrap();
        let told = format!("{:?} {:?} {:?}", instance.hosts, instance.placements, corp.git);
        assert!(!told.contains("github.com") && !told.contains("githubusercontent"), "{told}");
        for action in corp.actions() {
            let scopes = corp.action(&action.name, &BTreeMap::new()).unwrap().unwrap();
            assert!(!format!("{scopes:?}").contains("github.com"), "{}", action.name);
        }
    }

    #[test]
    fn keys_of_the_extension_replace_those_of_the_extended_provider() {
        let text = "id: corp-bugs\nname: Bugs\nextends: linear\nhosts: [bugs.corp.example, files.corp.example]\n\
            auth: [{ id: key, kind: bearer, env: [BUGS_TOKEN] }]\n";
        let bugs = read(text).unwrap();
        assert_eq!((bugs.auth.len(), &*bugs.auth[0].id), (1, "key"));
        assert_eq!(bugs.category.as_deref(), Some("dev"));
        let url = &bugs.about.test.as_ref().unwrap().url;
        assert_eq!(url, "https://bugs.corp.example/graphql");
    }

    #[test]
    fn an_extension_without_hosts_keeps_the_hosts_of_the_extended_provider() {
        let text = "id: other-key\nname: Other\nextends: groq\ncategory: mine\n";
        let other = read(text).unwrap();
        assert_eq!(other.hosts[0].to_string(), "api.groq.com");
        assert_eq!(other.category.as_deref(), Some("mine"));
    }

    #[test]
    fn an_invalid_extension_is_reported_with_its_line() {
        for (text, told) in [
            (
                "id: a\nname: A\nextends: no-such\nhosts: [a.test]\n",
                "p.yaml:3: extends: this is not a built-in provider; name one of `keyward provider list`",
            ),
            (
                "id: a\nname: A\nextends: [github]\n",
                "p.yaml:3: extends: this is not a built-in provider; name one of `keyward provider list`",
            ),
            (
                "id: a\nname: A\nextends: linear\nhosts: [a.test]\n",
                "p.yaml:4: hosts: `linear` has 2 hosts (api.linear.app, uploads.linear.app); list as many hosts, in the same order",
            ),
            (
                "id: github\nname: A\nextends: github\nhosts: [a.test]\n",
                "p.yaml:1: id: `github` is a built-in provider; choose another id",
            ),
            (
                "id: a\nname: A\nextends: groq\nhosts: [a.test]\nauht: []\n",
                "p.yaml:5: auht: unknown key `auht`; did you mean `auth`?",
            ),
        ] {
            let problems = read(text).map(|_| ()).unwrap_err();
            assert_eq!(problems, [told], "{text}");
        }
    }
}
