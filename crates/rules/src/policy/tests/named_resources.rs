//! Claims about requests whose fields name another resource than the path.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::samples::Sample;
use crate::actions::{ActionScope, ScopeKind};
use crate::policy::{
    ActionList, Policy, PolicyInput, PolicyRequest, Rule, RuleAction, named_resources,
};
use keyward_base::id::OrgId;
use keyward_base::pattern::PathPattern;

/// The field `name: value`.
fn fields(field: &str) -> HeaderMap {
    let (name, value) = field.split_once(": ").unwrap();
    let (name, value) = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
    HeaderMap::from_iter([(name.unwrap(), value.unwrap())])
}

/// Whether the request with this field is permitted, and the rule that decides.
fn decided(sample: &Sample, policy: &Policy, line: &str, field: &str) -> (bool, String) {
    let fields = fields(field);
    Sample::ask(line, &[], None, |asked| {
        let methods = std::iter::once(asked.method);
        let resources =
            named_resources(asked.target, methods, asked.path, asked.query, &fields).unwrap();
        let asked = PolicyRequest { resources: &resources, ..*asked };
        let rule = match policy.decide(&sample.agent, &asked) {
            Ok(permit) => return (true, permit.rule().to_string()),
            Err(reason) => policy.deciding_rule(&sample.agent, &asked, &reason),
        };
        (false, rule.map(|rule| rule.to_string()).unwrap_or_default())
    })
}

fn paths(patterns: &[&str]) -> Vec<PathPattern> {
    patterns.iter().map(|text| PathPattern::parse(text).expect(text)).collect()
}

#[test]
fn a_bucket_that_a_host_names_is_no_way_to_another_bucket() {
    let sample = Sample::new();
    let work = Sample::account("work", &["*.amazonaws.com"]);
    let uses = RuleAction::Use(work.clone());
    let rules = vec![
        Sample::rule("secret", &["secret.s3.eu-west-1.amazonaws.com"], RuleAction::Deny),
        Sample::rule("mine", &["mine.s3.eu-west-1.amazonaws.com"], uses),
    ];
    let bindings = vec![sample.bound(&work)];
    let policy = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() });
    let policy = policy.unwrap();
    let put = "PUT https://mine.s3.eu-west-1.amazonaws.com/a";
    let of = |source| decided(&sample, &policy, put, &format!("x-amz-copy-source: {source}"));
    assert_eq!(of("mine/b"), (true, "mine".to_owned()));
    assert_eq!(of("secret/b"), (false, "secret".to_owned()));
    for source in ["other/b", "arn:aws:s3:eu-west-1:1:accesspoint/p/object/b", "other%2Fb"] {
        assert!(!of(source).0, "{source}");
    }
}

#[test]
fn a_denied_action_is_found_at_the_destination() {
    let sample = Sample::new();
    let work = Sample::account("work", &["dav.a.test"]);
    let mut binding = sample.bound(&work);
    let publish = ActionScope {
        methods: vec![Method::PUT, Method::from_bytes(b"MOVE").unwrap()],
        paths: paths(&["/public/**"]),
        kind: ScopeKind::Own,
        ..ActionScope::default()
    };
    let (names, scopes) = (vec!["publish".into()], vec![publish]);
    binding.deny = Some(ActionList { names, scopes, lost: None });
    let id = format!("binding:{}", work.id);
    let policy = Policy::compile(PolicyInput { bindings: vec![binding], ..PolicyInput::default() });
    let policy = policy.unwrap();
    let of = |line, to| decided(&sample, &policy, line, &format!("destination: {to}"));
    let line = "MOVE https://dav.a.test/drafts/a";
    assert_eq!(of(line, "/public/a"), (false, id));
    assert!(of(line, "/drafts/b").0);
}

#[test]
fn a_call_of_a_person_needs_the_named_resource_too() {
    let work = Sample::account("work", &["dav.a.test"]);
    let deny = Sample::rule("no-secrets", &["dav.a.test"], RuleAction::Deny);
    let rules = vec![Rule { paths: paths(&["/secret/**"]), ..deny }];
    let policy = Policy::compile(PolicyInput { rules, ..PolicyInput::default() }).unwrap();
    for (to, is_permitted) in [("/secret/a", false), ("/b", true)] {
        let fields = fields(&format!("destination: {to}"));
        Sample::ask("COPY https://dav.a.test/a", &[], None, |asked| {
            let methods = std::iter::once(asked.method);
            let resources =
                named_resources(asked.target, methods, asked.path, asked.query, &fields).unwrap();
            let asked = PolicyRequest { resources: &resources, ..*asked };
            let permit = policy.permit_call(&OrgId::default_org(), &work, &asked);
            assert_eq!(permit.is_ok(), is_permitted, "{to}");
        });
    }
}

#[test]
fn a_repository_that_a_rule_does_not_permit_is_no_source_of_layers() {
    let sample = Sample::new();
    let work = Sample::account("work", &["registry.test"]);
    let uses = Sample::rule("mine", &["registry.test"], RuleAction::Use(work.clone()));
    let rules = vec![Rule { paths: paths(&["/v2/mine/**"]), ..uses }];
    let bindings = vec![sample.bound(&work)];
    let policy = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() });
    let policy = policy.unwrap();
    let of = |line: &str| decided(&sample, &policy, line, "accept: */*").0;
    let upload = "https://registry.test/v2/mine/a/blobs/uploads/";
    assert!(of(&format!("POST {upload}")));
    assert!(of(&format!("POST {upload}?mount=sha256:1f&from=mine/b")));
    assert!(!of(&format!("POST {upload}?mount=sha256:1f&from=team/secret")));
    assert!(of(&format!("PATCH {upload}?mount=sha256:1f&from=team/secret")), "it mounts nothing");
}

#[test]
fn a_bucket_that_a_rule_does_not_permit_is_no_destination_of_a_copy() {
    let sample = Sample::new();
    let work = Sample::account("work", &["storage.test"]);
    let rules = [
        ("mine", "/storage/v1/b/mine/**", vec![]),
        ("public", "/storage/v1/b/public/**", vec![Method::GET]),
    ]
    .map(|(id, path, methods)| {
        let uses = Sample::rule(id, &["storage.test"], RuleAction::Use(work.clone()));
        Rule { paths: paths(&[path]), methods, ..uses }
    });
    let bindings = vec![sample.bound(&work)];
    let policy =
        Policy::compile(PolicyInput { rules: rules.into(), bindings, ..PolicyInput::default() });
    let policy = policy.unwrap();
    let of = |path: &str| {
        let line = format!("POST https://storage.test/storage/v1/b/{path}");
        decided(&sample, &policy, &line, "accept: */*").0
    };
    for path in [
        "mine/o/x/rewriteTo/b/other/o/y",
        "mine/o/x/copyTo/b/public/o/y",
        "mine/o/x/copyTo/b/mine/o/y/copyTo/b/other/o/z/copyTo/b/mine/o/w",
    ] {
        assert!(!of(path), "{path}");
    }
    for path in ["mine/o/x/rewriteTo/b/mine/o/y", "mine/o/x/moveTo/o/y", "mine/o/x/compose"] {
        assert!(of(path), "{path}");
    }
}
