//! Many connections of one client at one authorization server: one for each row of a table of possible
//! answers.

use aho_corasick::AhoCorasick;
use serde_json::Value;

use super::authorization::{Authorization, Fault, Rules, TokenCall};
use super::lab::{HOST, Lab};
use super::tokens::{api, method, plan_of, refresh_only};
use super::wire::{Message, until};
use super::{Origin, request_text};

/// Short pauses, and no rest for a server that fails: the rows say what it does.
const OFTEN: &str = "backoff_first: 50ms, backoff_jitter_percent: 0, circuit_failures_max: 1000000";

/// All of it: connections `c0`, `c1`, … that the agent `ci` may use.
pub struct Fleet {
    pub authorization: Authorization,
    pub lab: Lab,
    /// The refresh token that each connection began with.
    pub refresh: Vec<String>,
}

impl Fleet {
    /// As many as there are rows; `oauth` is more of the section of that name, in flow style.
    pub async fn of(rows: usize, rules: Rules, oauth: &str) -> Self {
        let authorization = Authorization::with(rules).await;
        let origin = api(&authorization);
        Self::before(rows, authorization, origin, oauth).await
    }

    /// The same before an API of the test's own.
    pub async fn before(
        rows: usize,
        authorization: Authorization,
        origin: Origin,
        oauth: &str,
    ) -> Self {
        let first = refresh_only(&authorization);
        let mut plan = plan_of(&authorization, &first, &method("")).no_agents();
        let mut refresh = Vec::new();
        for row in 0..rows {
            let token = refresh_only(&authorization).refresh.expect("a refresh token");
            let fields = format!("{{ refresh_token: {{ env: R{row} }} }}");
            plan = plan
                .connection(&format!("{{ name: c{row}, provider: acme, fields: {fields} }}"))
                .variable(&format!("R{row}"), &token);
            refresh.push(token);
        }
        let all: Vec<String> = (0..rows).map(|row| format!("c{row}")).collect();
        let plan = plan.agent("ci", &all.join(", "));
        let plan = plan.top(&format!("oauth: {{ {OFTEN}{oauth} }}"));
        Self { authorization, lab: plan.start(origin).await, refresh }
    }

    /// One request of the agent with a row's connection.
    pub async fn ask(&self, row: usize) -> Message {
        self.ask_with(row, "GET /row").await
    }

    /// The same of another request without a body.
    pub async fn ask_with(&self, row: usize, request: &str) -> Message {
        let mut wire = self.lab.tunnel(HOST).await;
        let request = format!("{request}\r\nKeyward-Connection: c{row}");
        wire.ask(request_text(&request, HOST)).await
    }

    /// Asks until there is an answer of the API.
    pub async fn healed(&self, row: usize) {
        until(&format!("the healing of c{row}"), async || self.ask(row).await.head.status() == 200)
            .await;
    }

    /// A row's request while the server does wrong once: the answer, and the calls that it took.
    pub async fn ask_at(&self, row: usize, fault: &Fault) -> (Message, Vec<TokenCall>) {
        let before = self.authorization.calls().len();
        self.authorization.fail_next(fault.clone());
        let answer = self.ask(row).await;
        (answer, self.authorization.calls().split_off(before))
    }

    /// A row's connection, as its owner sees it.
    pub async fn shown(&self, row: usize) -> Value {
        self.lab.gateway.api("GET", &format!("/connections/c{row}"), "").await.json()
    }

    /// Stops and starts the gateway.
    pub async fn restart(&mut self) {
        self.lab.gateway.restart().await;
    }

    /// Looks for everything that was issued where it should not be.
    pub async fn finish(self) {
        let log = super::canary::log().lock().expect("not poisoned").clone();
        let issued = self.authorization.calls().into_iter().filter_map(|call| call.issued);
        let issued = issued.flat_map(|pair| pair.refresh.into_iter().chain([pair.access]));
        let secrets: Vec<String> = issued.chain(self.refresh).collect();
        // There are many: one pass over the log for all of them.
        let secrets = AhoCorasick::new(&secrets).expect("few and short");
        assert!(secrets.find(&log).is_none(), "a token is in the log");
        self.lab.finish().await;
    }
}
