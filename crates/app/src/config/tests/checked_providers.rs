//! Providers that were found sound before: when they are read again nevertheless, and that they mean the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::map;
use crate::config::error::lines;
use crate::config::{Config, ConfigError, VariableSource, file};
use keyward_rules::provider::Configured;

/// A configuration with a data directory.
struct Installed {
    dir: TempDir,
}

impl Installed {
    fn with(text: &str) -> Self {
        let installed = Self { dir: tempfile::tempdir().unwrap() };
        installed.write(text);
        installed
    }

    /// One whose providers are kept.
    fn kept(text: &str) -> Self {
        let installed = Self::with(text);
        assert!(installed.load(&[]).unwrap().keep_providers().unwrap(), "{text}");
        installed
    }

    fn write(&self, text: &str) {
        fs::write(self.at("keyward.yaml"), text).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = VariableSource::fixed(&map(variables));
        file::load(Some(&self.at("keyward.yaml")), Some(self.dir.path()), &environment)
    }

    /// Whether no provider was read.
    fn reads_none(&self, variables: &[(&str, &str)]) -> bool {
        let config = self.load(variables).unwrap();
        config.providers.iter().all(|it| matches!(it, Configured::Checked(_)))
            && !config.providers.is_empty()
    }

    fn problems(&self) -> String {
        match self.load(&[]) {
            Ok(_) => String::new(),
            Err(ConfigError::Problems(problems)) => lines(&problems),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A section between others.
fn text(count: usize) -> String {
    let provider = |number: usize| {
        format!(
            "# number {number}\n- id: own-{number}\n  name: Own {number}\n  hosts: [api-{number}.own.test, '{{region}}.own-{number}.test']\n  \
             variables: [{{ name: region, choices: [eu, us] }}]\n  auth:\n  - {{ id: key, kind: api_key, placement: {{ header: X-Key }} }}\n  \
             - {{ id: o, kind: oauth2, token: 'https://api-{number}.own.test/o/token' }}\n  quirks: [ä]\n"
        )
    };
    let providers: String = (0..count).map(provider).collect();
    format!(
        "log: {{ level: info }}\nproviders:\n{providers}# the rest\nconnections:\n- name: one\n  provider: own-3\n  auth: key\n  \
         variables: {{ region: eu }}\n  fields: {{ api_key: {{ env: KEY }} }}\n"
    )
}

/// Providers in one line each.
fn flow(count: usize) -> Vec<String> {
    let provider = |number: usize| {
        format!(
            "{{ id: own-{number}, name: Own, hosts: [api-{number}.own.test], auth: [{{ id: key, kind: bearer }}] }}"
        )
    };
    (0..count).map(provider).collect()
}

#[test]
fn changed_providers_are_parsed_again_and_their_problems_are_reported() {
    let installed = Installed::kept(&text(64));
    assert!(installed.reads_none(&[]));
    for (from, to) in [
        ("id: own-7\n", "id: Own 7\n"),
        ("id: own-7\n", "id: own-8\n"),
        ("# number 7\n", "# number 7\n- { id: 7, hosts: [\n"),
        ("api-9.own", "*.com"),
        ("provider: own-3", "provider: own-x"),
    ] {
        let broken = text(64).replace(from, to);
        installed.write(&broken);
        let told = installed.problems();
        assert!(!told.is_empty(), "{to}");
        let fresh = Installed::with(&broken);
        let places = |told: &str, of: &Installed| told.replace(of.dir.path().to_str().unwrap(), "");
        assert_eq!(places(&told, &installed), places(&fresh.problems(), &fresh));
    }
    installed.write(&text(64).replace("name: Own 9\n", "name: Owned 9\n"));
    assert!(!installed.reads_none(&[]));
    installed.write(&text(64));
    assert!(installed.reads_none(&[]));
}

#[test]
fn providers_are_not_parsed_again_after_a_change_of_another_section() {
    let before = text(64);
    let installed = Installed::kept(&before);
    for changed in [
        before.replace("info", "warn"),
        before.replace("level: info", "level: info,\n  format: json"),
        before.replace("  auth: key\n", "  auth: key\n  description: mine\n"),
        format!("# first\n\n{before}default: deny\n"),
        before[..before.find("connections:").unwrap()].to_owned(),
    ] {
        installed.write(&changed);
        assert!(installed.reads_none(&[]), "{changed}");
        let fresh = Installed::with(&changed);
        let (kept, read) = (installed.load(&[]).unwrap(), fresh.load(&[]).unwrap());
        let connections = |config: &Config, of: &Installed| {
            format!("{:?}", config.connections).replace(of.dir.path().to_str().unwrap(), "")
        };
        assert_eq!(connections(&kept, &installed), connections(&read, &fresh));
        assert_eq!(kept.providers.len(), read.providers.len());
        assert!(!kept.keep_providers().unwrap(), "they are kept");
    }
    // Problems have the lines of the file.
    installed.write(&format!("{before}agent: []\n"));
    let line = before.lines().count() + 1;
    assert!(installed.problems().contains(&format!("keyward.yaml:{line}: agent:")));
}

#[test]
fn a_providers_section_inside_of_a_text_defines_no_provider() {
    let before = text(64);
    let installed = Installed::kept(&before);
    let begin = before.find("providers:").unwrap();
    let section = &before[begin..before.find("connections:").unwrap()];
    for hidden in [
        format!("rules:\n- allow: x.test\n  name: \"\n{section}\"\n"),
        format!("public_url: |\n{section}"),
        format!("{section}{section}"),
        // The quotes of two changed items have sound ones between them.
        section
            .replace("name: Own 5\n", "name: 'Own 5\n")
            .replace("name: Own 9\n", "name: Own 9'\n"),
        section
            .replace("name: Own 5\n", "name: Own 5\n  quirks: [\n")
            .replace("name: Own 9\n", "]\n"),
    ] {
        installed.write(&hidden);
        let fresh = Installed::with(&hidden);
        let own = |of: &Installed| of.load(&[]).map(|config| config.providers.len()).ok();
        assert_eq!(own(&installed), own(&fresh), "{hidden}");
        assert_ne!(own(&installed), Some(64), "{hidden}");
    }
}

#[test]
fn only_providers_with_changed_lines_are_parsed_again() {
    let before = text(65);
    let removed = before.find("- id: own-20\n").unwrap()..before.find("# number 21\n").unwrap();
    let new =
        "- { id: new, name: New, hosts: [new.test], auth: [{ id: k, kind: bearer }] }\n# the rest";
    for (changed, read) in [
        (before.replace("name: Own 9\n", "name: Owned 9\n"), 1),
        // The lines of an item end where the next one begins.
        (before.replace("# the rest", new), 2),
        ([&before[..removed.start], &before[removed.end..]].concat(), 1),
    ] {
        let installed = Installed::kept(&before);
        installed.write(&changed);
        let (config, fresh) = (installed.load(&[]).unwrap(), Installed::with(&changed));
        let is_read = |it: &&Configured| matches!(it, Configured::Parsed(_));
        assert_eq!(config.providers.iter().filter(is_read).count(), read, "{changed}");
        let sorted = |config: &Config| {
            let mut all: Vec<_> =
                config.providers.iter().map(|it| format!("{:?}", it.provider())).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&config), sorted(&fresh.load(&[]).unwrap()));
        let definitions = |config: &Config| {
            let mut all: Vec<_> =
                config.provider_definitions.iter().map(|it| it.json().to_string()).collect();
            all.sort();
            all
        };
        assert_eq!(definitions(&config), definitions(&fresh.load(&[]).unwrap()));
        assert!(config.keep_providers().unwrap() && installed.reads_none(&[]));
    }
}

#[test]
fn providers_of_an_invalid_configuration_are_not_cached() {
    for (from, to) in [("id: own-7\n", "id: own-8\n"), ("api-9.own", "*.com"), ("log:", "log: [")] {
        let broken = text(64).replace(from, to);
        let installed = Installed::with(&text(64));
        let config = installed.load(&[]).unwrap();
        installed.write(&broken);
        assert!(!config.keep_providers().unwrap(), "{to}");
        assert!(!installed.at("providers.checked").exists());
    }
}

#[test]
fn fewer_than_64_providers_or_items_not_in_whole_lines_are_not_cached() {
    let one_line = format!("{{ log: {{}}, providers: [{}] }}\n", flow(64).join(", "));
    let own_lines = text(64).replace("- id: own-1\n", "-\n  id: own-1\n");
    for text in [text(63), one_line, own_lines] {
        let installed = Installed::with(&text);
        let config = installed.load(&[]).unwrap();
        assert!(!config.keep_providers().unwrap(), "{text}");
        assert!(!installed.at("providers.checked").exists());
    }
}

#[test]
fn a_damaged_cache_file_or_one_of_another_build_is_not_used() {
    let installed = Installed::kept(&text(64));
    let kept = installed.at("providers.checked");
    let sound = fs::read_to_string(&kept).unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let (_, content) = sound.split_once('\n').unwrap();
    let summed = |content: &str| {
        let sum = Sha256::digest(content.as_bytes());
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{sum}\n{content}")
    };
    assert_eq!(summed(content), sound);
    let other_program = content.replacen("\"program\":\"", "\"program\":\"0", 1);
    for damaged in [
        String::new(),
        sound[..sound.len() - 1].to_owned(),
        sound.replacen("api-1.own.test", "api-1.evil.test", 1),
        summed(&other_program),
        summed("{}"),
    ] {
        fs::write(&kept, &damaged).unwrap();
        assert!(!installed.reads_none(&[]));
    }
    fs::write(&kept, &sound).unwrap();
    assert!(installed.reads_none(&[]));
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!installed.reads_none(&[]), "others may have written it");
}

#[test]
fn a_variable_that_replaces_the_providers_overrides_the_cache() {
    let installed = Installed::kept(&text(64));
    let own =
        "[{ id: own-3, name: Other, hosts: [other.test], auth: [{ id: key, kind: bearer }] }]";
    let variables = [("KEYWARD__PROVIDERS", own)];
    // `api_key` is not a field of a bearer token, nor `region` a variable of it.
    assert!(installed.load(&variables).is_err());
    assert!(installed.reads_none(&[("KEYWARD__LOG__LEVEL", "warn")]));
}

#[test]
fn cached_providers_equal_those_that_were_parsed() {
    let last = format!("log: {{}}\r\nproviders:\r\n\r\n  - {}", flow(80).join("\n\n  - "));
    for (text, used) in [(text(64), 1), (last, 0)] {
        let installed = Installed::with(&text);
        let Ok(before) = installed.load(&[]) else { panic!("{}", installed.problems()) };
        assert!(before.keep_providers().unwrap() && !before.keep_providers().unwrap());
        let after = installed.load(&[]).unwrap();
        assert!(installed.reads_none(&[]) && !after.has_unkept_providers());
        let unused = |it: &&Configured| matches!(it, Configured::Checked(it) if !it.is_parsed());
        assert_eq!(after.providers.iter().filter(unused).count(), after.providers.len() - used);
        assert_eq!(before.providers.len(), after.providers.len());
        for (before, after) in before.providers.iter().zip(&after.providers) {
            assert_eq!(format!("{:?}", before.provider()), format!("{:?}", after.provider()));
        }
        let definitions = before.provider_definitions.iter().zip(&*after.provider_definitions);
        for (before, after) in definitions {
            assert_eq!((before.id(), before.json()), (after.id(), after.json()));
        }
        assert_eq!(format!("{:?}", before.connections), format!("{:?}", after.connections));
    }
}
