//! Variables laid over the file, the search for the file, and the data directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::{map, read, said};
use crate::config::environment::VariableSource;
use crate::config::{ConfigError, ListenAt, StoreChoice, file, ignored_variables};
use keyward_state::observe::log::Level;

#[test]
fn an_invalid_variable_is_refused_by_its_name() {
    for (name, value, expected) in [
        (
            "KEYWARD__LOGG__LEVEL",
            "debug",
            "environment variable KEYWARD__LOGG__LEVEL: logg: unknown key `logg`; did you mean `log`?",
        ),
        (
            "KEYWARD__LOG__LEVEL",
            "loud",
            "environment variable KEYWARD__LOG__LEVEL: log.level: `loud` is not one of the choices; write error, warn, info, debug, trace",
        ),
        (
            "KEYWARD__LOG__",
            "debug",
            "environment variable KEYWARD__LOG__: the name does not name a key; write `KEYWARD__SECTION__KEY`",
        ),
        (
            "KEYWARD__LOG__LEVEL__X",
            "1",
            "environment variable KEYWARD__LOG__LEVEL__X: log.level.x: the name leads through a key that is not a map; set the whole key above it, as `[…]` or `{…}`",
        ),
        (
            "KEYWARD__RULES__0__ACTION",
            "deny",
            "environment variable KEYWARD__RULES__0__ACTION: rules.0.action: the name leads through a key that is not a map; set the whole key above it, as `[…]` or `{…}`",
        ),
        (
            "KEYWARD__UPSTREAM__TRUST",
            "[a",
            "environment variable KEYWARD__UPSTREAM__TRUST: upstream.trust: not YAML: while parsing a flow sequence, expected ',' or ']'; correct the syntax",
        ),
        (
            "KEYWARD__TELEMETRY__OTLP__SAMPLE",
            "2",
            "environment variable KEYWARD__TELEMETRY__OTLP__SAMPLE: telemetry.otlp.sample: this is not a share; write a number from 0 to 1, such as 0.1\nenvironment variable KEYWARD__TELEMETRY__OTLP__SAMPLE: telemetry.otlp: `endpoint` is missing; add `endpoint:`",
        ),
        (
            "KEYWARD__AGENTS",
            "[{ name: a, token: kwa_canary }]",
            "environment variable KEYWARD__AGENTS: agents[0].token: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ),
    ] {
        let yaml = "log: { level: info }\nrules: [{ action: deny }]\n";
        assert_eq!(said(yaml, &[(name, value)]), expected);
    }
}

#[test]
fn problems_of_file_and_variables_are_reported_together() {
    let said = said("log: { level: a, level: b }", &[("KEYWARD__", "x")]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn variables_override_the_file_and_add_missing_sections() {
    let variables = [
        ("KEYWARD__LOG__LEVEL", "debug"),
        ("KEYWARD__LISTEN__PROXY", "127.0.0.1:0"),
        ("KEYWARD__STORE", "{ memory: {} }"),
        ("KEYWARD__LIMITS__STREAMS_MAX", "7"),
        ("KEYWARD__UPSTREAM__ALLOW_PRIVATE", "['127.0.0.1:9443']"),
        ("KEYWARD__DEFAULT", ""),
        ("KEYWARD_URL", "not ours"),
    ];
    let config = read("log: { level: info }\nstore: { sled: { path: x } }\n", &variables);
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.listen.proxy, [ListenAt::Tcp("127.0.0.1:0".parse().unwrap())]);
    assert_eq!(config.store, StoreChoice::Memory);
    assert_eq!(config.limits.streams_max, 7);
    assert_eq!(config.upstream.allow_private.len(), 1);
    assert_eq!(read("", &variables).log.level, Level::Debug);
}

#[test]
fn only_the_default_file_may_be_absent_and_flag_and_variable_precede_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, streams) in [("flag.yaml", 1), ("variable.yaml", 2), ("keyward.yaml", 3)] {
        fs::write(path(name), format!("limits: {{ streams_max: {streams} }}")).unwrap();
    }
    let variables =
        [("KEYWARD_CONFIG", path("variable.yaml")), ("KEYWARD_DATA", dir.path().to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.to_str().unwrap()));
    let load = |config: Option<&Path>, variables: &[(&str, &str)]| {
        file::load(config, None, &VariableSource::fixed(&map(variables)))
    };
    let streams = |config: Option<&Path>, variables: &[(&str, &str)]| {
        load(config, variables).unwrap().limits.streams_max
    };
    assert_eq!(streams(Some(&path("flag.yaml")), &variables), 1);
    assert_eq!(streams(None, &variables), 2);
    assert_eq!(streams(None, &variables[1..]), 3);
    let missing = load(Some(&path("missing.yaml")), &variables);
    assert!(matches!(missing, Err(ConfigError::Unreadable { .. })));
    fs::remove_file(path("keyward.yaml")).unwrap();
    assert_eq!(load(None, &variables[1..]).unwrap().data_dir, dir.path());
    fs::remove_file(path("variable.yaml")).unwrap();
    assert!(load(None, &variables).is_err());
}

#[test]
fn each_problem_is_shown_on_its_own_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.yaml");
    fs::write(&path, "zzz: 1\nyyy: 2\n").unwrap();
    let error = file::load(Some(&path), Some(dir.path()), &VariableSource::fixed(&map(&[])));
    let error = error.map(|_| ()).unwrap_err();
    assert_eq!(error.problems().len(), 2);
    let said = error.to_string();
    let (first, second) = said.split_once('\n').unwrap();
    assert!(first.starts_with(&format!("{}:1: zzz: unknown key", path.display())), "{first}");
    assert!(second.starts_with(&format!("{}:2: yyy: unknown key", path.display())), "{second}");
}

#[test]
fn the_data_directory_is_the_flag_then_the_variable_then_a_home() {
    let dir = |data: Option<&str>, variables: &[(&str, &str)]| {
        file::data_dir(data.map(Path::new), &VariableSource::fixed(&map(variables)))
    };
    let set = [("KEYWARD_DATA", "/d"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(dir(Some("/f"), &set).unwrap(), Path::new("/f"));
    assert_eq!(dir(None, &set).unwrap(), Path::new("/d"));
    assert!(dir(Some("relative"), &set).unwrap().is_absolute());
    let root = rustix::process::geteuid().is_root();
    let home = |path: &str| PathBuf::from(if root { "/var/lib/keyward" } else { path });
    assert_eq!(dir(None, &set[1..]).unwrap(), home("/x/keyward"));
    assert_eq!(dir(None, &set[2..]).unwrap(), home("/h/.local/share/keyward"));
    let relative = [("XDG_DATA_HOME", "x"), ("HOME", "/h")];
    assert_eq!(dir(None, &relative).unwrap(), home("/h/.local/share/keyward"));
    assert!(root || matches!(dir(None, &[]), Err(ConfigError::NoHome)));
}

#[test]
fn problems_of_the_file_are_reported_before_those_of_variables() {
    let told = said("- a list\n", &[("KEYWARD__LOG__LEVEL", "debug")]);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].starts_with("keyward.yaml: this is a list"), "{told}");
    assert!(lines[1].starts_with("environment variable KEYWARD__LOG__LEVEL"), "{told}");
}

#[test]
fn a_variable_that_looks_like_a_setting_and_is_ignored_is_named_with_the_one_meant() {
    let warnings = |yaml: &str, name: &str| {
        let problems = ignored_variables(&read(yaml, &[(name, "secret-value")]));
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (name, meant) in [
        ("KEYWARD_LOG_LEVEL", "KEYWARD__LOG__LEVEL"),
        ("KEYWARD_LISTEN_PROXY", "KEYWARD__LISTEN__PROXY"),
        ("KEYWARD_PUBLIC_URL", "KEYWARD__PUBLIC_URL"),
        ("KEYWARD_LIMITS_STREAMS_MAX", "KEYWARD__LIMITS__STREAMS_MAX"),
        ("KEYWARD_log_level", "KEYWARD__LOG__LEVEL"),
        ("KEYWARD_RULES", "KEYWARD__RULES"),
        ("KEYWARD_CONFGI", "KEYWARD_CONFIG"),
    ] {
        let expected =
            format!("environment variable {name}: it is ignored; did you mean `{meant}`?");
        assert_eq!(warnings("", name), [expected]);
    }
    // Kubernetes sets the last four in pods beside a service with the name `keyward`.
    for name in [
        "KEYWARD_CONFIG",
        "KEYWARD_DATA",
        "KEYWARD_TOKEN",
        "KEYWARD_CA",
        "KEYWARD_RULES_0_ACTION",
        "KEYWARD_SERVICE_HOST",
        "KEYWARD_SERVICE_PORT",
        "KEYWARD_PORT",
        "KEYWARD_PORT_8080_TCP_ADDR",
    ] {
        assert_eq!(warnings("", name), Vec::<String>::new(), "{name}");
    }
    assert!(ignored_variables(&read("", &[("KEYWARD__LOG__FORMAT", "json")])).is_empty());
    let secret = "agents: [{ name: a, token: { env: KEYWARD_LOG_LEVEL } }]";
    assert_eq!(warnings(secret, "KEYWARD_LOG_LEVEL"), Vec::<String>::new(), "the name of a secret");
}
