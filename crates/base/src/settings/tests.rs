//! What a connection's settings accept.

use super::*;

fn read(json: &str) -> Result<Settings, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn invalid_and_out_of_bounds_settings_are_refused() {
    for bad in [
        r#"{"timeout": "9ms"}"#,
        r#"{"timeout": "61m"}"#,
        r#"{"timeout": "30"}"#,
        r#"{"timeout": 30}"#,
        r#"{"rate_limit": "0/s"}"#,
        r#"{"rate_limit": "1000001/s"}"#,
        r#"{"rate_limit": "100/day"}"#,
        r#"{"rate_limit": "100"}"#,
        r#"{"rate_limit": "+1/s"}"#,
        r#"{"rate_limit": "1.5/s"}"#,
        r#"{"rate_limit": 100}"#,
        r#"{"concurrency": 0}"#,
        r#"{"concurrency": 100001}"#,
        r#"{"concurrency": -1}"#,
        r#"{"user_agent": ""}"#,
        r#"{"user_agent": "a\r\nb: c"}"#,
        r#"{"user_agent": "\u00e9"}"#,
        r#"{"retry": {"attempts": 0}}"#,
        r#"{"retry": {"attempts": 11}}"#,
        r#"{"retry": {"on": [404]}}"#,
        r#"{"retry": {"on": [401]}}"#,
        r#"{"retry": {"on": [600]}}"#,
        r#"{"retry": {"wait_max": "2h"}}"#,
        r#"{"retry": 3}"#,
        r#"{"timeouts": "30s"}"#,
        r#"{"statements": ["drop"]}"#,
        r#"{"statements": "select"}"#,
        r#"{"tables": ["*"]}"#,
        r#"{"tables": ["a.b.c"]}"#,
        r#"{"functions": "f"}"#,
        r#"{"functions": ["*"]}"#,
        r#"{"role": "none"}"#,
        r#"{"rows_max": 0}"#,
        r#"{"bytes_max": 999}"#,
        r#"{"audit_statements": "yes"}"#,
        r#"{"upgrades": "tcp"}"#,
        r#"{"upgrades": [""]}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let long = format!(r#"{{"user_agent": "{}"}}"#, "x".repeat(1025));
    assert!(read(&long).is_err());
}

#[test]
fn no_message_quotes_a_value() {
    for bad in [
        r#"{"timeout": "canary"}"#,
        r#"{"rate_limit": "canary/s"}"#,
        r#"{"user_agent": "canary\n"}"#,
        r#"{"headers": {"x-a": "canary\n"}}"#,
    ] {
        let error = read(bad).unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn settings_are_serialized_as_they_were_read() {
    let json = r#"{"timeout":"30s","retry":{"attempts":2,"on":[503],"wait_max":"500ms"},"rate_limit":"100/min","concurrency":10,"user_agent":"acme/1.0 (x)","headers":{"x-env":"prod"}}"#;
    let settings = read(json).unwrap();
    assert_eq!(serde_json::to_string(&settings).unwrap(), json);
    assert_eq!(serde_json::to_string(&Settings::default()).unwrap(), "{}");
    assert!(read("{}").unwrap().is_empty() && !settings.is_empty());
}

#[test]
fn an_empty_retry_has_the_default_attempts_and_statuses() {
    let retry = read(r#"{"retry": {}}"#).unwrap().retry.unwrap();
    assert_eq!((retry.attempts(), retry.statuses()), (3, &[429, 502, 503, 504][..]));
    assert!(retry.applies_to(503) && !retry.applies_to(500));
}

#[test]
fn rates_are_parsed_from_a_count_and_a_unit_of_time() {
    for (text, count, seconds) in
        [("10/s", 10, 1), (" 100 / min ", 100, 60), ("7/m", 7, 60), ("5000/h", 5000, 3600)]
    {
        let rate: Rate = text.parse().unwrap();
        assert_eq!((rate.count(), rate.period().as_secs()), (count, seconds), "{text}");
    }
    assert_eq!("7/m".parse::<Rate>().unwrap().to_string(), "7/min");
}

#[test]
fn the_first_setting_without_effect_is_named() {
    use ConnectionUsage::{Files, Requests, Sessions};
    use DatabaseProtocol::{Bolt, Mysql, Postgres, Redis};
    for (json, usage, name) in [
        (r#"{"read_only": true, "timeout": "1s"}"#, Sessions(Postgres), Some("timeout")),
        (r#"{"read_only": true, "headers": {"x-a": "1"}}"#, Sessions(Redis), Some("headers")),
        (r#"{"timeout": "1s", "read_only": false}"#, Requests, Some("read_only")),
        (r#"{"tables": ["a"]}"#, Sessions(Redis), Some("tables")),
        (r#"{"statements": ["select"], "rows_max": 1}"#, Sessions(Mysql), Some("rows_max")),
        (r#"{"audit_statements": true, "functions": ["f"]}"#, Sessions(Bolt), Some("functions")),
        (r#"{"read_only": true, "audit_statements": true}"#, Sessions(Bolt), None),
        (r#"{"statements": ["select"], "rows_max": 1, "role": "r"}"#, Sessions(Postgres), None),
        (r#"{"timeout": "1s", "headers": {"x-a": "1"}, "retry": {}}"#, Requests, None),
        (r#"{"read_only": true, "timeout": "1s"}"#, Files, Some("timeout")),
        (r#"{"read_only": true, "audit_statements": true}"#, Files, Some("audit_statements")),
        (r#"{"read_only": true}"#, Files, None),
        ("{}", Requests, None),
    ] {
        assert_eq!(read(json).unwrap().without_effect(usage), name, "{json}");
    }
}
