//! `bench-scale CONNECTIONS AGENTS`: makes an installation in memory, prints what opening it and changing it costs, and writes
//! its rows to the standard output in the text format of PostgreSQL's COPY, for the table `keyward_rows`.
//!
//! The master key is the text of `KEYWARD_KEY`. Each agent has ten bindings. The token of agent `a-0` is in `AGENT_TOKEN`.

mod cost;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use cost::Cost;
use jiff::Timestamp;
use keyward_base::id::{ConnectionId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_model::{
    Agent, AgentFacts, AgentSpec, BindingRecord, ConnectionSpec, ManagedBy, Record, TokenRecord,
    TokenSpec, Visibility,
};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::policy::DefaultAction;
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::KeySource;
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::Directory;
use keyward_state::rulebook::{Rulebook, PolicyInputs};
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Store, Table};
use keyward_vault::{NewConnection, Vault};

/// Bindings of each agent.
const BINDINGS: usize = 10;
const PAGE: usize = 10_000;
/// Changes whose time is measured.
const CHANGES: usize = 200;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut count = |name| {
        let text = arguments.next().with_context(|| format!("the number of {name} is missing"))?;
        text.parse::<usize>().with_context(|| format!("{text} is not a number of {name}"))
    };
    let (connections, agents) = (count("connections")?, count("agents")?);
    let sources = [KeySource::Env("KEYWARD_KEY".to_owned())];
    let variable = |name: &str| std::env::var(name).ok().map(Secret::new);
    let keyring = Arc::new(KeySource::load(&sources, variable, &[])?);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    fill(&store, &keyring, connections, agents).await?;
    // Before `open`, which pauses connections and agents.
    write(&*store).await?;
    open(&store, &keyring).await
}

/// Makes the connections and agents through the vault and the directory.
async fn fill(
    store: &Arc<dyn Store>,
    keyring: &Arc<Keyring>,
    connections: usize,
    agents: usize,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let clock = Clock::System;
    let directory = Arc::new(Directory::open(store.clone(), keyring.clone(), clock.clone()).await?);
    let catalogue = Arc::new(Catalogue::built_in());
    let vault =
        Vault::open(store.clone(), keyring.clone(), directory.clone(), catalogue, clock).await?;
    let mut ids = Vec::with_capacity(connections);
    for number in 0..connections {
        ids.push(connection(&vault, number).await?);
    }
    for number in 0..agents {
        directory.add_record(agent(number, &ids)).await?;
    }
    eprintln!("made {connections} connections, {agents} agents in {:.1?}", began.elapsed());
    Ok(())
}

async fn connection(vault: &Vault, number: usize) -> anyhow::Result<ConnectionId> {
    let fields = BTreeMap::from([(
        "api_key".to_owned(),
        Secret::new(format!("sk-{number:08}-0123456789abcdefghijklmnop")),
    )]);
    let spec = ConnectionSpec {
        name: format!("c-{number}"),
        provider: "anthropic".to_owned(),
        ..ConnectionSpec::default()
    };
    let new = NewConnection {
        org: OrgId::default_org(),
        spec,
        owner: None,
        visibility: Visibility::default(),
        managed_by: ManagedBy::Store,
    };
    Ok(vault.lifecycle().add(new, fields).await?.id.clone())
}

/// Agent number `number`, with bindings to connections that no other agent of few has.
fn agent(number: usize, connections: &[ConnectionId]) -> Record<Agent> {
    let now = Timestamp::now();
    let text = match (number, std::env::var("AGENT_TOKEN")) {
        (0, Ok(text)) => text,
        _ => format!("kwa_{number:043}"),
    };
    let token = TokenRecord {
        id: TokenId::random(),
        hash: TokenHash::of(&text).to_hex(),
        spec: TokenSpec::default(),
        created: now,
        expires: None,
        managed_by: ManagedBy::Store,
    };
    let bound = (0..BINDINGS.min(connections.len())).map(|at| BindingRecord {
        connection: connections[(number * BINDINGS + at) % connections.len()].clone(),
        created: now,
        managed_by: ManagedBy::Store,
        placeholders: BTreeMap::from([(
            "api_key".to_owned(),
            Placeholder::issue("sk-ant-", Some(108)),
        )])
        .into(),
        direct: true,
        preferred: None,
        limits: Default::default(),
    });
    let facts =
        AgentFacts { tokens: vec![token], bindings: bound.collect(), ..AgentFacts::default() };
    let spec = AgentSpec::named(format!("a-{number}"));
    Record::new(&OrgId::default_org(), ManagedBy::Store, spec, facts, now)
}

/// Prints what each step of opening costs, and a change.
async fn open(store: &Arc<dyn Store>, keyring: &Arc<Keyring>) -> anyhow::Result<()> {
    let clock = Clock::System;
    let mut cost = Cost::begin();
    let mut step = |name: &str| cost.step(name);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await?;
    let directory = Arc::new(directory);
    step("directory");
    let catalogue = Arc::new(Catalogue::built_in());
    let vault = Vault::open(
        store.clone(),
        keyring.clone(),
        directory.clone(),
        catalogue.clone(),
        clock,
    )
    .await?;
    step("vault");
    let sources = PolicyInputs::new(catalogue, DefaultAction::Deny, Vec::new(), 100);
    let rulebook = Rulebook::new(sources, directory.clone()).ok().context("rules")?;
    step("rulebook");
    vault.refresh().resume().await;
    step("vault: resume");
    change(&directory, &rulebook).await?;
    drop((rulebook, vault, directory));
    step("dropped");
    Ok(())
}

/// Prints the time until a change of one connection, and of one agent, is in force.
async fn change(directory: &Directory, rulebook: &Rulebook) -> anyhow::Result<()> {
    let (org, view) = (OrgId::default_org(), directory.view());
    let connections: Vec<_> = view.connections().take(CHANGES).cloned().collect();
    let agents: Vec<_> = view.agents().take(CHANGES).cloned().collect();
    drop(view);
    let mut times = Vec::new();
    for connection in &connections {
        let began = Instant::now();
        directory.set_connection_paused(&org, &connection.id, true, ManagedBy::Store).await?;
        rulebook.rebuild().await.ok().context("rules")?;
        times.push(began.elapsed());
    }
    cost::show_median("a paused connection", &mut times);
    for agent in &agents {
        let began = Instant::now();
        directory.change::<Agent>(&org, &agent.id, |agent| agent.facts.held = true).await?;
        rulebook.rebuild().await.ok().context("rules")?;
        times.push(began.elapsed());
    }
    cost::show_median("a paused agent", &mut times);
    Ok(())
}

async fn write(store: &dyn Store) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut line = String::new();
    for table in Table::ALL {
        let mut after = None;
        loop {
            let page = store.list(table, "", after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for row in page {
                line.clear();
                write!(line, "{}\t", table.name())?;
                hex(&mut line, row.key.as_bytes());
                write!(line, "\t{}\t", row.version.0)?;
                hex(&mut line, &row.value);
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
        }
    }
    Ok(out.flush()?)
}

fn hex(line: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.push_str("\\\\x");
    for byte in bytes {
        line.push(char::from(DIGITS[usize::from(byte >> 4)]));
        line.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
