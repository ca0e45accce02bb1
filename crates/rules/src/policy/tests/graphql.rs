//! Rules, bindings and slots with GraphQL operations.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::samples::Sample;
use crate::actions::ActionScope;
use crate::graphql::{
    FieldPattern, NotUnderstood, OperationKind, OperationScope, Operations, RequestedOperations,
};
use crate::policy::{
    AccountBinding, ActionList, Extent, OwnAuthorization, Parts, Policy, PolicyInput,
    PolicyRequest, Reason, Rule, RuleAction, Slot,
};
use keyward_base::pattern::PathPattern;

const ASK: &str = "POST https://api.a.test/graphql";

fn scope(kind: OperationKind, fields: &[&str]) -> ActionScope {
    ActionScope {
        methods: vec![http::Method::POST],
        paths: vec![PathPattern::parse("/graphql").unwrap()],
        graphql: Some(OperationScope {
            kinds: vec![kind],
            fields: fields.iter().map(|text| FieldPattern::parse(text).unwrap()).collect(),
            without_fields: Vec::new(),
        }),
        ..ActionScope::default()
    }
}

fn read() -> ActionScope {
    scope(OperationKind::Query, &[])
}

fn create() -> ActionScope {
    scope(OperationKind::Mutation, &["create*"])
}

fn list(scopes: Vec<ActionScope>) -> ActionList {
    ActionList { names: vec!["some".into()], scopes, lost: None }
}

/// Who decides about a POST with this document; an empty one was not read.
fn decided(sample: &Sample, policy: &Policy, document: &str) -> String {
    let fields =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = serde_json::json!({ "query": document }).to_string();
    let operations = Operations::read(&fields, None, body.as_bytes());
    let operations = match &operations {
        _ if document.is_empty() => RequestedOperations::Unread,
        Ok(operations) => RequestedOperations::Known(operations),
        Err(why) => RequestedOperations::Unclear(*why),
    };
    Sample::ask(ASK, &[], None, |asked| {
        let asked = PolicyRequest { operations, ..*asked };
        match policy.decide(&sample.agent, &asked) {
            Ok(permit) => permit.rule().to_string().split(":con_").next().unwrap().to_owned(),
            Err(Reason::BodyUnread { .. }) => "unread".to_owned(),
            Err(Reason::OperationsUnclear { why: NotUnderstood::Document(_), .. }) => {
                "unclear".to_owned()
            }
            Err(reason) => reason.code().to_string(),
        }
    })
}

fn policy(sample: &Sample, rules: Vec<Rule>, change: impl FnOnce(&mut AccountBinding)) -> Policy {
    let work = Sample::account("work", &["api.a.test"]);
    let mut binding = sample.bound(&work);
    change(&mut binding);
    let bindings = vec![binding];
    Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() }).unwrap()
}

#[test]
fn a_binding_allows_a_request_if_its_actions_together_have_all_its_operations() {
    let sample = Sample::new();
    let allow = list(vec![read(), create()]);
    let parts = Parts { allow: Some(allow), slots: Vec::new() };
    let policy = policy(&sample, Vec::new(), |binding| binding.extent = Extent::Parts(parts));
    for (document, expected) in [
        ("", "unread"),
        ("mutation { delete }", "denied"),
        ("mutation { create: delete }", "denied"),
        ("mutation { createA delete }", "denied"),
        ("{ a } mutation { delete }", "denied"),
        ("subscription { a }", "denied"),
        ("{ a", "unclear"),
        ("{ a }", "binding"),
        ("mutation { createA x: createB }", "binding"),
        ("{ a } mutation { createA }", "binding"),
    ] {
        assert_eq!(decided(&sample, &policy, document), expected, "{document}");
    }
}

/// The action is denied by the binding, and by a rule.
fn denying(sample: &Sample) -> [Policy; 2] {
    let by_binding =
        policy(sample, Vec::new(), |binding| binding.deny = Some(list(vec![create()])));
    let deny = Sample::rule("no-creates", &["api.a.test"], RuleAction::Deny);
    let by_rule = policy(sample, vec![Rule { actions: vec![create()], ..deny }], |_| {});
    [by_binding, by_rule]
}

#[test]
fn one_operation_of_a_denied_action_is_enough_to_refuse_the_request() {
    let sample = Sample::new();
    for policy in denying(&sample) {
        for (document, expected) in [
            ("", "unread"),
            ("mutation { createA }", "denied"),
            ("mutation { other createA }", "denied"),
            ("{ a } mutation { x: createA }", "denied"),
            ("mutation { createA", "unclear"),
            ("mutation { other }", "binding"),
            ("{ createA }", "binding"),
        ] {
            assert_eq!(decided(&sample, &policy, document), expected, "{document}");
        }
    }
}

/// Services take operations from the URL of a GET, from the body of a PUT, and from a WebSocket, which a GET opens.
#[test]
fn no_method_but_post_reaches_an_endpoint_where_an_operation_is_denied() {
    let sample = Sample::new();
    for policy in denying(&sample) {
        for (line, expected) in [
            (
                "GET https://api.a.test/graphql?query=mutation%7BcreateA%7D",
                Some(NotUnderstood::Method),
            ),
            ("GET https://api.a.test/graphql", Some(NotUnderstood::Method)),
            ("PUT https://api.a.test/graphql", Some(NotUnderstood::Method)),
            ("PATCH https://api.a.test/GraphQL/", Some(NotUnderstood::Method)),
            ("GET https://api.a.test/other", None),
        ] {
            let found = Sample::ask(line, &[], None, |asked| {
                match policy.decide(&sample.agent, asked).err() {
                    Some(Reason::OperationsUnclear { why, .. }) => Some(why),
                    other => {
                        assert_eq!(other, None, "{line}");
                        None
                    }
                }
            });
            assert_eq!(found, expected, "{line}");
        }
    }
}

#[test]
fn the_name_of_the_root_type_is_allowed_with_an_action_and_denied_only_with_its_whole_kind() {
    let sample = Sample::new();
    let denying =
        |scope| policy(&sample, Vec::new(), |binding| binding.deny = Some(list(vec![scope])));
    let parts = Parts { allow: Some(list(vec![create()])), slots: Vec::new() };
    let allowing = policy(&sample, Vec::new(), |binding| binding.extent = Extent::Parts(parts));
    let some = denying(create());
    let all = denying(scope(OperationKind::Mutation, &[]));
    for (document, allowed, some_denied, all_denied) in [
        ("mutation { __typename createA }", "binding", "denied", "denied"),
        ("mutation { __typename other }", "denied", "binding", "denied"),
        ("mutation { __typename }", "binding", "binding", "denied"),
    ] {
        let found = [&allowing, &some, &all].map(|policy| decided(&sample, policy, document));
        assert_eq!(found, [allowed, some_denied, all_denied], "{document}");
    }
}

#[test]
fn a_slot_and_a_rule_are_for_their_operations_only() {
    let sample = Sample::new();
    let slot = Slot {
        plugin: "reader".into(),
        name: "work".into(),
        methods: Vec::new(),
        paths: Vec::new(),
        allow: Some(list(vec![read()])),
        own_authorization: OwnAuthorization::Refuse,
        blocked: None,
    };
    let parts = Parts { allow: None, slots: vec![Arc::new(slot)] };
    let by_slot = policy(&sample, Vec::new(), |binding| binding.extent = Extent::Parts(parts));
    let work = Sample::account("work", &["api.a.test"]);
    let uses = Rule {
        actions: vec![read()],
        agents: Some(vec![sample.agent.id.clone()]),
        ..Sample::rule("reads", &["api.a.test"], RuleAction::Use(work))
    };
    let by_rule =
        Policy::compile(PolicyInput { rules: vec![uses], ..PolicyInput::default() }).unwrap();
    for (policy, allowed, refused) in
        [(by_slot, "binding", "denied"), (by_rule, "reads", "default_deny")]
    {
        for (document, expected) in [
            ("", "unread"),
            ("mutation { a }", refused),
            ("{ a } mutation { b }", refused),
            ("{ a", "unclear"),
            ("{ a b }", allowed),
        ] {
            assert_eq!(decided(&sample, &policy, document), expected, "{document}");
        }
    }
}

#[test]
fn the_body_is_not_needed_where_it_decides_nothing() {
    let sample = Sample::new();
    let whole = ActionScope { graphql: None, ..read() };
    for scopes in [vec![whole.clone()], vec![read(), whole.clone()], vec![whole, create()]] {
        let parts = Parts { allow: Some(list(scopes)), slots: Vec::new() };
        let policy = policy(&sample, Vec::new(), |binding| binding.extent = Extent::Parts(parts));
        assert_eq!(decided(&sample, &policy, ""), "binding");
    }
}
