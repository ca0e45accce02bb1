//! Profiles of AWS's tools, of `credentials` and `config`:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use super::candidate::{ImportCandidate, SourceContent};

const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// The keys of each profile. Roles and logins in a browser are named, with what a person can do.
pub(super) fn profiles(file: &str, text: &str) -> SourceContent {
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
                found.candidates.push(ImportCandidate { provider: Some("aws"), ..one });
            }
            "role_arn" => {
                let why = format!(
                    "a role: keyward connection add aws --auth assume_role --field role_arn={value}"
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
        let found = profiles("c", text);
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
        let found = profiles("c", text);
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
