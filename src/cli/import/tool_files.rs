//! Files of tools with keys. `.pypirc`: the package indexes that `twine` and `flit` upload to, with their logins:
//! <https://packaging.python.org/en/latest/specifications/pypirc/>. Profiles of AWS's tools, of `credentials` and
//! `config`: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::ops::Range;

use http::Uri;
use zeroize::Zeroizing;

use super::candidate::{BASIC, ImportCandidate, SourceContent};

/// The user name that says that the password is an API token. <https://pypi.org/help/#apitoken>
const TOKEN_USER: &str = "__token__";

/// Indexes whose address tools know.
const KNOWN: [(&str, &str); 2] = [("pypi", "upload.pypi.org"), ("testpypi", "test.pypi.org")];

/// A section of the file.
#[derive(Default)]
struct Section<'a> {
    name: &'a str,
    repository: Option<&'a str>,
    user: Option<&'a str>,
    password: Option<Password<'a>>,
}

struct Password<'a> {
    /// The number of its line; the first one has 1.
    line: usize,
    text: &'a str,
    /// Where it is in the file.
    at: Range<usize>,
}

/// The passwords of the file, each for the host of its index.
pub(super) fn pypirc(file: &str, text: Zeroizing<String>) -> SourceContent {
    let mut found = SourceContent::default();
    for section in sections(&text) {
        let Some(password) = &section.password else { continue };
        let place = format!("{file}:{} {}", password.line, section.name);
        match section.host() {
            Some(host) => {
                let one = ImportCandidate::of(place, file, password.text);
                let user = section.user.filter(|user| *user != TOKEN_USER).map(str::to_owned);
                found.candidates.push(ImportCandidate {
                    host: Some(host),
                    user,
                    only_host: true,
                    option: Some(BASIC.to_owned()),
                    at: Some(password.at.clone()),
                    ..one
                });
            }
            None => {
                let why = "its section has no https address as `repository`";
                found.unusable.push((place, why.to_owned()));
            }
        }
    }
    found.text = Some(text);
    found
}

impl Section<'_> {
    /// The host of its index.
    fn host(&self) -> Option<String> {
        let Some(repository) = self.repository else {
            let known = KNOWN.iter().find(|(name, _)| *name == self.name);
            return known.map(|(_, host)| (*host).to_owned());
        };
        let address: Uri = repository.parse().ok()?;
        let host = address.host().filter(|_| address.scheme_str() == Some("https"))?;
        Some(host.to_ascii_lowercase())
    }
}

/// The sections, as Python's `configparser` reads them: `name = value` or `name: value`, names in any case.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut all: Vec<Section<'_>> = Vec::new();
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let (begin, number) = (start, index + 1);
        start += line.len();
        let bare = line.trim_end();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            all.push(Section { name, ..Section::default() });
            continue;
        }
        // A comment, or a further line of the value before.
        if bare.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        let (Some(section), Some((name, rest))) = (all.last_mut(), bare.split_once(['=', ':']))
        else {
            continue;
        };
        let value = rest.trim();
        if value.is_empty() {
            continue;
        }
        match name.trim().to_ascii_lowercase().as_str() {
            "repository" => section.repository = Some(value),
            "username" => section.user = Some(value),
            "password" => {
                let end = begin + bare.len();
                let at = end - value.len()..end;
                section.password = Some(Password { line: number, text: value, at });
            }
            _ => {}
        }
    }
    all
}

const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The keys of each profile. Roles and logins in a browser are named, with what a person can do.
pub(super) fn profiles(file: &str, text: &str, provider: &'static str) -> SourceContent {
    let mut found = SourceContent::default();
    let mut profile = "default".to_owned();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // `config` writes `[profile NAME]`, except for the default one.
            let name = name.trim();
            profile = name.strip_prefix("profile ").unwrap_or(name).trim().to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let place = format!("{file}:{} [{profile}] {key}", index + 1);
        match key {
            _ if KEYS.contains(&key) => {
                let variable = key.to_ascii_uppercase();
                let one = ImportCandidate::in_variable(place, &profile, &variable, value);
                found.candidates.push(ImportCandidate { provider: Some(provider), ..one });
            }
            "role_arn" => {
                let why = format!(
                    "a role: keyward connection add {provider} --auth assume_role --field role_arn={value}"
                );
                found.unusable.push((place, why));
            }
            "sso_session" | "sso_start_url" => {
                let why = "a login in a browser, which the AWS command line renews: use access keys or a role";
                found.unusable.push((place, why.to_owned()));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[distutils]
index-servers =
    pypi
    own
password = P0
# password = no
[pypi]
username = __token__
password = pypi-T1
[testpypi]
repository: https://test.pypi.org/legacy/
Username: __token__
Password: pypi-T2
[own]
repository = https://Pypi.Corp.test:8443/simple
username = me
password = p%40 = x
[plain]
repository = http://plain.test/
password = P3
[nowhere]
password = P4
[empty]
username = __token__
password =
";

    #[test]
    fn each_index_has_its_password_and_no_other_gets_it() {
        let found = pypirc("f", Zeroizing::new(TEXT.to_owned()));
        let each = found.candidates.iter().map(|it| {
            assert!(it.only_host && it.variable.is_none());
            let at = it.at.clone().expect("a place");
            assert_eq!(&TEXT[at], it.value.text());
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} | {} {} | {}", it.place, of(&it.host), of(&it.user), it.value.text())
        });
        assert_eq!(
            each.collect::<Vec<_>>(),
            [
                "f:9 pypi | upload.pypi.org  | pypi-T1",
                "f:13 testpypi | test.pypi.org  | pypi-T2",
                "f:17 own | pypi.corp.test me | p%40 = x",
            ]
        );
        let unusable: Vec<_> = found.unusable.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(unusable, ["f:5 distutils", "f:20 plain", "f:22 nowhere"]);
        assert!(found.unusable.iter().all(|(_, why)| why.contains("repository")));
    }

    fn shown(read: &SourceContent) -> Vec<String> {
        let each = read.candidates.iter().map(|it| {
            let variable = it.variable.as_deref().unwrap_or_default();
            format!("{} | {variable} | {}", it.place, it.value.text())
        });
        each.collect()
    }

    #[test]
    fn keys_are_read_by_profile_as_the_tools_of_aws_read_them() {
        let text = "[default]\naws_access_key_id = A1\n# aws_session_token = no\naws_secret_access_key=S1\nregion=x\n[profile work]\naws_access_key_id=A2\n";
        let found = profiles("c", text, "aws");
        assert_eq!(
            shown(&found),
            [
                "c:2 [default] aws_access_key_id | AWS_ACCESS_KEY_ID | A1",
                "c:4 [default] aws_secret_access_key | AWS_SECRET_ACCESS_KEY | S1",
                "c:7 [work] aws_access_key_id | AWS_ACCESS_KEY_ID | A2",
            ]
        );
        assert!(found.unusable.is_empty());
        assert_eq!(found.candidates[2].group, "work");
    }

    #[test]
    fn roles_and_browser_logins_are_reported_and_not_imported() {
        let text = "[profile deploy]\nrole_arn = arn:aws:iam::123456789012:role/deploy\nsource_profile = work\n[profile people]\nsso_session = corp\n";
        let found = profiles("c", text, "aws");
        assert!(found.candidates.is_empty());
        let shown: Vec<_> = found.unusable.iter().map(|(at, why)| format!("{at}: {why}")).collect();
        assert_eq!(
            shown,
            [
                "c:2 [deploy] role_arn: a role: keyward connection add aws --auth assume_role --field role_arn=arn:aws:iam::123456789012:role/deploy",
                "c:5 [people] sso_session: a login in a browser, which the AWS command line renews: use access keys or a role",
            ]
        );
    }
}
