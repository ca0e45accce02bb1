//! The way back from an environment of ours: variables that hold what it set are removed, and lists keep the user's entries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::files::{BUNDLE, EnvironmentFiles, Paths};
use super::options::{without, without_settings};
use super::table::{PLACEHOLDERS, SetTo, TABLE};
use super::{AgentEnvironment, GRADLE, Inherited, MAVEN, git, java, no_proxy, outer};
use keyward_base::agent::TOKEN_PREFIX;

/// What restores an environment. `variable`: the value of a variable.
pub(crate) fn environment(variable: impl Fn(&str) -> Option<OsString>) -> AgentEnvironment {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let text = |name: &str| variable(name).and_then(|it| it.into_string().ok()).unwrap_or_default();
    let inherited = Inherited::of(variable);
    let ca = PathBuf::from(text("NODE_EXTRA_CA_CERTS"));
    let earlier = ca.parent().unwrap_or(Path::new("")).to_owned();
    let (mut variables, mut removed) = (Vec::new(), Vec::new());
    for entry in TABLE {
        let now = text(entry.name);
        match left(entry.set_to, &now, &Paths::new(&earlier), &inherited) {
            left if left == now => {}
            left if left.is_empty() => removed.push(entry.name.to_owned()),
            left => variables.push((entry.name.to_owned(), left)),
        }
    }
    variables.extend(git::variables(&[], &inherited.git));
    removed.extend(outer::variables(|name| Some(text(name))).iter().map(ToString::to_string));
    removed.extend(inherited.run_files.iter().map(|file| file.variable.clone()));
    removed.extend(inherited.placeholders);
    removed.extend(variable(PLACEHOLDERS).map(|_| PLACEHOLDERS.to_owned()));
    let files = EnvironmentFiles { all: Vec::new() };
    AgentEnvironment { variables, removed, files, notes: Vec::new() }
}

/// What is left of a value without our part; empty if all is ours.
fn left(set_to: SetTo, now: &str, earlier: &Paths, inherited: &Inherited) -> String {
    let is_ours = match set_to {
        SetTo::Proxy => now.contains(TOKEN_PREFIX),
        SetTo::NoProxy => now == no_proxy::cleaned("", &[]),
        SetTo::File(name) => now == earlier.file(name),
        SetTo::BundleForOwn => now == earlier.file(BUNDLE),
        SetTo::Text(text) => now == text,
        SetTo::Java => return without_settings(now, &java("", "")),
        SetTo::Maven => return without(now, MAVEN),
        SetTo::Gradle => return without(now, GRADLE),
        SetTo::Node => return inherited.node.clone(),
        SetTo::Php => return inherited.php.trim_matches(':').to_owned(),
        SetTo::Python => return inherited.python.clone(),
    };
    if is_ours { String::new() } else { now.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::environment as made;
    use super::*;

    fn restored(shell: &mut BTreeMap<String, String>) {
        let back = environment(|name| shell.get(name).map(OsString::from));
        shell.extend(back.variables);
        for name in back.removed {
            shell.remove(&name);
        }
    }

    #[test]
    fn a_shell_without_an_environment_of_ours_stays_as_it_is() {
        let of_user = [
            ("HTTPS_PROXY", "http://corp:3128"),
            ("NO_PROXY", "intranet.example"),
            ("SSL_CERT_FILE", "/corp.pem"),
            ("NODE_OPTIONS", "--max-old-space-size=99"),
            ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
            ("GITHUB_TOKEN", "of the user"),
        ];
        let before: BTreeMap<_, _> =
            of_user.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut shell = before.clone();
        restored(&mut shell);
        assert_eq!(shell, before);
    }

    #[test]
    fn what_an_environment_sets_is_removed_and_the_users_entries_of_lists_stay() {
        let theirs = [("JAVA_TOOL_OPTIONS", "-Xmx1g"), ("PYTHONPATH", "/lib/own")];
        let before: BTreeMap<_, _> =
            theirs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let inherited = Inherited::of(|name: &str| before.get(name).map(OsString::from));
        let mut shell = before.clone();
        shell.extend(made(&inherited).variables);
        restored(&mut shell);
        // git reads as many entries as the count says.
        shell.retain(|name, _| !name.starts_with(git::PREFIX));
        shell.remove("GH_TOKEN");
        shell.remove("GITHUB_TOKEN");
        assert_eq!(shell, before);
    }
}
