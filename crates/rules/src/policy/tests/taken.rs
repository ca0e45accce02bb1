//! Requests that a connection of the host does not take: its credential has no place, or they have an authorization of
//! their own.

use std::sync::Arc;

use http::Method;

use super::samples::Sample;
use crate::inject::own_authorization::{SentAuthorization, Signs};
use crate::inject::placeholder::{Placeholder, PlaceholderCore};
use crate::inject::placement::Scoped;
use crate::policy::slots::{Extent, Parts, Slot};
use crate::policy::{
    Account, AccountBinding, AgentAllow, AllowedSets, OwnAuthorization, Permit, Policy,
    PolicyInput, PolicyRequest, Reason, Rule, RuleAction, RuleOutcome,
};
use keyward_base::pattern::PathPattern;

const PLACED: &str = "https://api.a.test/git/x";
const ELSEWHERE: &str = "https://api.a.test/page";

/// What a request carries beside its line.
#[derive(Clone, Copy, Default)]
struct Carries<'a> {
    placeholders: &'a [PlaceholderCore],
    named: Option<&'a str>,
    own: Option<SentAuthorization>,
}

/// An agent with one connection of `api.a.test`.
struct Case {
    sample: Sample,
    account: Arc<Account>,
    core: PlaceholderCore,
    input: PolicyInput,
}

impl Case {
    fn with(account: Account) -> Self {
        let (sample, account) = (Sample::new(), Arc::new(account));
        let core = Placeholder::issue("sk-", None).core();
        let bound = AccountBinding { placeholders: vec![core], ..sample.bound(&account) };
        let input = PolicyInput { bindings: vec![bound], ..PolicyInput::default() };
        Self { sample, account, core, input }
    }

    /// A connection whose credential has a place below `/git`.
    fn placed() -> Self {
        let what = None;
        let paths = vec![PathPattern::parse("/git/**").expect("a pattern")];
        let places = [Scoped { hosts: Vec::new(), paths, what }].into();
        Self::with(Account { places, ..Account::clone(&Sample::account("work", &["api.a.test"])) })
    }

    /// A connection that signs.
    fn signing() -> Self {
        let signs = Some(Signs::Aws);
        Self::with(Account { signs, ..Account::clone(&Sample::account("work", &["api.a.test"])) })
    }

    fn rule(mut self, rule: Rule) -> Self {
        self.input.rules.push(rule);
        self
    }

    /// The rule for this agent, or for all agents.
    fn using(self, is_grant: bool, own_authorization: Option<OwnAuthorization>) -> Self {
        let agents = is_grant.then(|| vec![self.sample.agent.id.clone()]);
        let action = RuleAction::Use(self.account.clone());
        let rule = Sample::rule("use", &["api.a.test"], action);
        self.rule(Rule { agents, own_authorization, ..rule })
    }

    fn allowing(mut self) -> Self {
        let agent = &self.sample.agent;
        let sets = AllowedSets::named(["web"]);
        self.input.allow =
            vec![AgentAllow { org: agent.org.clone(), agent: agent.id.clone(), sets }];
        self
    }

    fn bound(mut self, change: impl FnOnce(&mut AccountBinding)) -> Self {
        change(&mut self.input.bindings[0]);
        self
    }

    fn policy(&self) -> Policy {
        Policy::compile(self.input.clone()).expect("a policy")
    }

    fn ask<T>(
        &self,
        line: &str,
        with: Carries<'_>,
        then: impl FnOnce(&PolicyRequest<'_>) -> T,
    ) -> T {
        Sample::ask(line, with.placeholders, with.named, |asked| {
            then(&PolicyRequest { own: with.own, ..*asked })
        })
    }

    fn decide(&self, line: &str, with: Carries<'_>) -> Result<Permit, Reason> {
        self.ask(line, with, |asked| self.policy().decide(&self.sample.agent, asked))
    }

    /// `inject`, the rule that passes, or the code.
    fn said(&self, line: &str, with: Carries<'_>) -> String {
        match self.decide(line, with) {
            Ok(permit) if permit.wanted().is_some() => "inject".to_owned(),
            Ok(permit) => permit.rule().as_str().split(":con_").next().unwrap().to_owned(),
            Err(reason) => reason.code().as_str().to_owned(),
        }
    }

    fn plain(&self, line: &str) -> String {
        self.said(line, Carries::default())
    }

    fn signed(&self, line: &str) -> String {
        self.said(line, Carries { own: Some(SentAuthorization::SignedUrl), ..Carries::default() })
    }

    /// The part of the first rule or binding.
    fn fit(&self, line: &str, with: Carries<'_>) -> RuleOutcome {
        self.ask(line, with, |asked| {
            self.policy().explain(&self.sample.agent, asked).considered[0].fit
        })
    }
}

#[test]
fn a_request_that_selects_the_connection_is_refused_where_it_has_no_place_and_the_place_is_named() {
    for case in [Case::placed(), Case::placed().allowing(), Case::placed().using(false, None)] {
        let cores = [case.core];
        for with in [
            Carries { placeholders: &cores, ..Carries::default() },
            Carries { named: Some("work"), ..Carries::default() },
        ] {
            let text = case.decide(&format!("GET {ELSEWHERE}"), with).unwrap_err().text();
            assert_eq!(text.code.as_str(), "bad_request", "{text:?}");
            assert_eq!(text.hint.as_deref(), Some("it has one at /git/**"));
            assert_eq!(case.said(&format!("GET {PLACED}"), with), "inject");
        }
    }
}

#[test]
fn a_request_that_selects_nothing_is_decided_without_a_connection_that_has_no_place() {
    let get = &format!("GET {ELSEWHERE}");
    assert_eq!(Case::placed().plain(get), "default_deny");
    for case in
        [Case::placed(), Case::placed().using(false, None), Case::placed().using(true, None)]
    {
        let case = case.allowing();
        assert_eq!(case.plain(&format!("GET {PLACED}")), "inject");
        for line in [get, &format!("POST {ELSEWHERE}")] {
            assert_eq!(case.plain(line), "allow:web", "{line}");
        }
        let later = Sample::rule("later", &["api.a.test"], RuleAction::Pass);
        assert_eq!(case.rule(later).plain(get), "later");
    }
    let denied = Sample::rule("no", &["api.a.test"], RuleAction::Deny);
    assert_eq!(Case::placed().allowing().rule(denied).plain(get), "denied");
    let inject = || Sample::rule("inject", &["api.a.test"], RuleAction::Inject);
    assert_eq!(Case::placed().allowing().rule(inject()).plain(get), "connection_missing");
}

#[test]
fn a_connection_that_has_a_place_takes_the_request_before_a_closer_one_that_has_none() {
    let mut case = Case::placed();
    let wide = Sample::account("wide", &["*.a.test"]);
    case.input.bindings.push(case.sample.bound(&wide));
    let chosen = |line: &str| {
        let permit = case.decide(line, Carries::default()).expect(line);
        permit.wanted().map(|wanted| wanted.name.to_string())
    };
    assert_eq!(chosen(&format!("GET {PLACED}")).as_deref(), Some("work"));
    assert_eq!(chosen(&format!("GET {ELSEWHERE}")).as_deref(), Some("wide"));
}

#[test]
fn explain_says_why_the_connection_does_not_take_the_request() {
    let get = &format!("GET {ELSEWHERE}");
    for case in [Case::placed(), Case::placed().using(true, None)] {
        assert_eq!(case.fit(get, Carries::default()), RuleOutcome::NoPlace);
    }
    let own = Carries { own: Some(SentAuthorization::SignedUrl), ..Carries::default() };
    for case in [Case::signing(), Case::signing().using(true, None)] {
        assert_eq!(case.fit(get, own), RuleOutcome::OwnAuthorization);
    }
    assert_eq!(RuleOutcome::NoPlace.words(), "not bound here: no place");
}

#[test]
fn an_authorization_of_its_own_passes_for_reading_where_something_else_allows_it_and_is_refused_for_writing()
 {
    for case in
        [Case::signing(), Case::signing().using(false, None), Case::signing().using(true, None)]
    {
        assert_eq!(case.signed(&format!("GET {ELSEWHERE}")), "default_deny");
        let case = case.allowing();
        for (method, said) in [
            ("GET", "allow:web"),
            ("HEAD", "allow:web"),
            ("PUT", "own_authorization"),
            ("POST", "own_authorization"),
            ("OPTIONS", "own_authorization"),
        ] {
            assert_eq!(case.signed(&format!("{method} {ELSEWHERE}")), said, "{method}");
        }
        assert_eq!(case.plain(&format!("PUT {ELSEWHERE}")), "inject", "it has none of its own");
        let own = Carries {
            own: Some(SentAuthorization::SignedUrl),
            named: Some("work"),
            ..Carries::default()
        };
        assert_eq!(
            case.said(&format!("PUT {ELSEWHERE}"), own),
            "inject",
            "it selects the connection"
        );
    }
    // What a server may read instead of GET counts too.
    let case = Case::signing().allowing();
    let own = Some(SentAuthorization::SignedUrl);
    let decided =
        case.ask(&format!("GET {ELSEWHERE}"), Carries { own, ..Carries::default() }, |asked| {
            let asked = PolicyRequest { overrides: &[Method::DELETE], ..*asked };
            case.policy().decide(&case.sample.agent, &asked)
        });
    assert!(matches!(decided, Err(Reason::OwnAuthorization { .. })), "{decided:?}");
}

#[test]
fn writes_with_an_authorization_of_their_own_pass_only_where_binding_slot_or_rule_says_so() {
    let put = &format!("PUT {ELSEWHERE}");
    let pass = |bound: &mut AccountBinding| bound.own_authorization = OwnAuthorization::Pass;
    let slot = |own_authorization| {
        Arc::new(Slot {
            plugin: "p".into(),
            name: "s".into(),
            methods: vec![Method::PUT],
            paths: Vec::new(),
            allow: None,
            own_authorization,
            blocked: None,
        })
    };
    let slots = |own| {
        move |bound: &mut AccountBinding| {
            bound.extent = Extent::Parts(Parts { allow: None, slots: vec![slot(own)] });
        }
    };
    for (case, said) in [
        (Case::signing().bound(pass), "binding"),
        (Case::signing().bound(pass).using(false, None), "use"),
        (
            Case::signing().bound(pass).using(false, Some(OwnAuthorization::Refuse)),
            "own_authorization",
        ),
        (Case::signing().using(true, Some(OwnAuthorization::Pass)), "use"),
        (Case::signing().bound(slots(OwnAuthorization::Pass)), "binding"),
        (Case::signing().bound(slots(OwnAuthorization::Refuse)), "own_authorization"),
        (Case::signing(), "own_authorization"),
    ] {
        assert_eq!(case.signed(put), said);
    }
    let beyond = Case::signing().bound(slots(OwnAuthorization::Pass));
    assert_eq!(
        beyond.signed(&format!("DELETE {ELSEWHERE}")),
        "own_authorization",
        "beyond the slot"
    );
}

#[test]
fn an_alien_authorization_is_replaced_unless_the_connection_signs_and_a_signed_url_never() {
    let own = [SentAuthorization::Field, SentAuthorization::SignedUrl];
    let said = |signs: Option<Signs>| {
        let account =
            Account { signs, ..Account::clone(&Sample::account("work", &["api.a.test"])) };
        let case = Case::with(account);
        own.map(|own| {
            let with = Carries { own: Some(own), ..Carries::default() };
            case.said(&format!("PUT {ELSEWHERE}"), with)
        })
    };
    assert_eq!(said(None), ["inject", "own_authorization"]);
    assert_eq!(said(Some(Signs::Aws)), ["own_authorization"; 2]);
    assert_eq!(said(Some(Signs::Scheme)), ["own_authorization"; 2]);
}

#[test]
fn a_rule_that_injects_passes_an_authorization_of_its_own_only_if_it_says_so() {
    let inject = |own_authorization| Rule {
        own_authorization,
        ..Sample::rule("by-rule", &["api.a.test"], RuleAction::Inject)
    };
    let [get, put] = ["GET", "PUT"].map(|method| format!("{method} {ELSEWHERE}"));
    let case = Case::signing().allowing().rule(inject(None));
    assert_eq!([case.signed(&get), case.signed(&put)], ["connection_missing", "own_authorization"]);
    let case = Case::signing().rule(inject(Some(OwnAuthorization::Pass)));
    assert_eq!([case.signed(&get), case.signed(&put)], ["by-rule"; 2]);
    let pass = || Some(OwnAuthorization::Pass);
    let denying =
        Rule { own_authorization: pass(), ..Sample::rule("no", &["a.test"], RuleAction::Deny) };
    let errors = Policy::compile(PolicyInput { rules: vec![denying], ..PolicyInput::default() });
    assert!(errors.unwrap_err()[0].to_string().contains("own_authorization"));
}

#[test]
fn an_unsigned_request_to_a_host_that_names_no_service_is_not_the_signing_connection_s() {
    let signs = Some(Signs::Aws);
    let hosts = ["*.amazonaws.com", "minio.test"];
    let account = Account { signs, ..Account::clone(&Sample::account("work", &hosts)) };
    let case = Case::with(account).allowing();
    for (host, said) in [
        ("awscli.amazonaws.com", "allow:web"),
        ("b.s3.eu-west-1.amazonaws.com", "inject"),
        ("minio.test", "inject"),
    ] {
        assert_eq!(case.plain(&format!("GET https://{host}/x")), said, "{host}");
    }
    let cores = [case.core];
    let with = Carries { placeholders: &cores, ..Carries::default() };
    assert_eq!(case.said("GET https://awscli.amazonaws.com/x", with), "inject", "it is signed");
}
