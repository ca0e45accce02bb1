//! Property tests: a policy that followed changes of the directory equals one compiled from scratch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::directory::{
    AgentRecord, AppRecord, BindingRecord, BrokenReason, DirectoryError, Manifest, NewPlugin,
    PluginRecord, Visibility,
};
use keyward_base::id::{AgentId, AppId, UserId};
use keyward_base::shared_map;
use keyward_model::{App, Plugin, PluginSpec, Reference, Role, User, UserFacts, UserSpec};
use keyward_rules::git_push::RequestedPush;
use keyward_rules::graphql::RequestedOperations;
use keyward_rules::inject::placeholder::{Placeholder, PlaceholderCore};

const PROVIDERS: [&str; 4] = ["openai", "github", "shopify", "mcp"];
const HOSTS: [&str; 7] = [
    "api.openai.com",
    "api.github.com",
    "s0.myshopify.com",
    "s1.myshopify.com",
    "tunnel.test",
    "other.test",
    "mcp.test",
];
const PATHS: [&str; 5] = ["/v1/x", "/repos/a", "/admin/x", "/admin/oauth/access_token", "/token"];

/// The kind of change, the org, the agent or connection, and an argument.
type Step = (usize, usize, usize, usize);

/// The org of a step, its agent or connection, and an argument.
#[derive(Clone, Copy)]
struct Operands {
    org: usize,
    x: usize,
    y: usize,
}

/// Two orgs with agents `a0` to `a2` and connections `c0` to `c3`.
struct World {
    directory: Arc<Directory>,
    rulebook: Arc<Rulebook>,
    orgs: [OrgId; 2],
    users: [UserId; 2],
    /// Every agent that ever existed.
    agents: Vec<Agent>,
}

fn rules() -> Vec<PlacedRule> {
    let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let used = |name: &str| Some(name.to_owned());
    let act = |name: &str, action: ActionKind, hosts: &[&str]| RuleSpec {
        action: Some(action),
        ..text(name, hosts)
    };
    let first = vec![
        RuleSpec {
            agents: Some(list(&["a0", "a2"])),
            use_connection: used("c0"),
            methods: list(&["POST"]),
            ..text("granted", &["api.openai.com"])
        },
        RuleSpec {
            use_connection: used("c1"),
            paths: list(&["/repos/**"]),
            ..text("narrows", &["api.github.com"])
        },
        RuleSpec {
            paths: list(&["/admin/x"]),
            ..act("no", ActionKind::Deny, &["*.myshopify.com"])
        },
        RuleSpec { agents: Some(list(&["a1"])), ..act("open", ActionKind::Pass, &["other.test"]) },
        RuleSpec {
            agents: Some(list(&["a2"])),
            ..act("spliced", ActionKind::Tunnel, &["tunnel.test"])
        },
        RuleSpec { use_connection: used("c2"), ..text("anywhere", &[]) },
    ];
    let theirs = placed(act("theirs", ActionKind::Inject, &["api.openai.com"]));
    let theirs = PlacedRule { org: other(), ..theirs };
    first.into_iter().map(placed).chain([theirs]).collect()
}

fn other() -> OrgId {
    OrgId::named("other").expect("a name")
}

fn placeholders() -> BTreeMap<String, Placeholder> {
    [("key".to_owned(), Placeholder::issue("sk-", None))].into()
}

impl World {
    async fn new() -> Self {
        let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
        let directory = Directory::open(store, keyring, Clock::System).await.expect("a directory");
        let orgs = [OrgId::default_org(), other()];
        directory.add_org(&orgs[1], ManagedBy::Store).await.expect("an org");
        let mut users = vec![];
        for org in &orgs {
            let (email, role) = (None, Role::Member);
            let new = UserSpec { name: "u".to_owned(), email, role, paused: false };
            let user = directory.add::<User>(org, ManagedBy::Store, new, UserFacts::default());
            users.push(user.await.expect("a user").id.clone());
        }
        let directory = Arc::new(directory);
        let sources =
            PolicyInputs::new(Arc::new(Catalogue::built_in()), DefaultAction::Deny, Vec::new(), 10);
        let rulebook = Arc::new(Rulebook::new(sources, directory.clone()).expect("a rulebook"));
        let users = users.try_into().expect("two");
        let world = Self { directory, rulebook, orgs, users, agents: vec![] };
        // The rules' resources are added later, so names are resolved leniently, as after a reload.
        let sources =
            PolicyInputs::new(Arc::new(Catalogue::built_in()), DefaultAction::Deny, rules(), 10);
        world.rulebook.change().await.apply(sources).expect("they compile");
        world
    }

    fn connection(&self, org: usize, number: usize) -> Option<ConnectionId> {
        let view = self.directory.view();
        view.find_connection(&self.orgs[org], &format!("c{number}")).map(|it| it.id.clone())
    }

    fn agent(&self, org: usize, number: usize) -> Option<AgentId> {
        let view = self.directory.view();
        view.find_agent(&self.orgs[org], &format!("a{}", number % 3)).map(|it| it.id.clone())
    }

    fn app(&self, org: usize) -> Option<AppId> {
        self.directory.view().find_app(&self.orgs[org], "app").map(|it| it.id.clone())
    }

    async fn add(&mut self, Operands { org, x, y }: Operands) {
        let org_id = self.orgs[org].clone();
        if y % 2 == 0 {
            let name = format!("a{}", x % 3);
            let owner = (x == 3).then(|| self.users[org].clone());
            let (by, spec) = (ManagedBy::Store, AgentSpec::named(name.clone()));
            if let Ok(added) = self
                .directory
                .add::<keyward_model::Agent>(
                    &org_id,
                    by,
                    spec,
                    AgentFacts { owner, ..AgentFacts::default() },
                )
                .await
            {
                let (id, token) = (added.id.clone(), Some(TokenId::random()));
                let (name, session) = (name.as_str().into(), None);
                self.agents.push(Agent { id, org: org_id, name, token, session });
            }
            return;
        }
        let mut record = Samples::new().made(&format!("c{x}"), PROVIDERS[(x + y) % 4]);
        record.org = org_id;
        record.app = self.app(org).filter(|_| y == 3).map(Reference::Id);
        record.variables = match &*record.provider {
            "shopify" => [("shop".to_owned(), format!("s{}", x % 2))].into(),
            "mcp" => [("host".to_owned(), "mcp.test".to_owned())].into(),
            _ => BTreeMap::new(),
        };
        self.directory.add_record(record).await.ok();
    }

    async fn update(&self, Operands { org, x, y }: Operands, how: usize) {
        let Some(id) = self.connection(org, x) else { return };
        let (user, app) = (self.users[org].clone(), self.app(org));
        let change = |record: &mut ConnectionRecord| match how {
            0 => {
                record.facts.state = match y {
                    0 => ConnectionState::Paused,
                    1 => ConnectionState::Broken { reason: BrokenReason::Revoked, detail: None },
                    2 => ConnectionState::Draft { failure: None },
                    _ => ConnectionState::Active,
                }
            }
            1 => record.name = format!("c{y}"),
            2 => {
                record.facts.owner = Some(user.clone());
                record.facts.visibility =
                    if y > 1 { Visibility::Private } else { Visibility::Shared };
            }
            3 => record.environment = (y > 0).then(|| format!("e{y}")),
            4 => drop(record.variables.insert("shop".to_owned(), format!("s{}", y % 2))),
            5 => record.app = app.clone().filter(|_| y > 0).map(Reference::Id),
            6 => record.purpose = Some(format!("p{y}")),
            _ => {
                let text = format!("ua/{y}").parse().expect("text");
                record.settings.user_agent = Some(text).filter(|_| y > 0);
            }
        };
        self.directory.change::<Connection>(&self.orgs[org], &id, change).await.ok();
    }

    async fn bind(&self, Operands { org, x, y }: Operands, on: bool) {
        let (Some(agent), Some(id)) = (self.agent(org, x), self.connection(org, y)) else { return };
        let (org, directory) = (&self.orgs[org], &self.directory);
        match on {
            true => drop(directory.bind(org, &agent, &id, placeholders(), ManagedBy::Store).await),
            false => drop(directory.unbind(org, &agent, &id).await),
        }
    }

    async fn change_agent(&self, Operands { org, x, y }: Operands, how: usize) {
        let Some(id) = self.agent(org, x) else { return };
        let (org_id, directory) = (&self.orgs[org], &self.directory);
        let environment = (y > 1).then(|| format!("e{y}"));
        let relabel = |it: &mut AgentRecord| {
            it.spec.labels = BTreeMap::from([("y".to_owned(), y.to_string())]);
            it.spec.environment.clone_from(&environment);
        };
        let owner = (y > 1).then(|| self.users[org].clone());
        let give = |it: &mut AgentRecord| it.facts.owner.clone_from(&owner);
        match how {
            0 => drop(
                directory
                    .change::<keyward_model::Agent>(org_id, &id, |it| it.facts.paused = y > 1)
                    .await,
            ),
            1 => drop(directory.change::<keyward_model::Agent>(org_id, &id, relabel).await),
            2 => drop(directory.change::<keyward_model::Agent>(org_id, &id, give).await),
            _ => {
                drop(directory.remove::<keyward_model::Agent>(org_id, &id, ManagedBy::Store).await)
            }
        }
    }

    /// Installs, changes or removes plugin `p` of an agent.
    async fn plug(&self, Operands { org, x, y }: Operands) {
        let (Some(agent), org_id) = (self.agent(org, x), &self.orgs[org]) else { return };
        let view = self.directory.view();
        let there = view.plugins_of(org_id, &agent).next().map(|it| it.id.clone());
        if let (0, Some(id)) = (y, &there) {
            return drop(self.directory.remove::<Plugin>(org_id, id, ManagedBy::Store).await);
        }
        let found = self.connection(org, y).and_then(|id| view.connection(org_id, &id).cloned());
        let provider = found.as_ref().map_or("github", |it| &it.provider);
        let methods = if y > 1 { vec!["GET"] } else { vec!["GET", "POST"] };
        let slots = json!([
            {"slot": "one", "provider": provider, "methods": methods, "required": x > 0},
            {"slot": "two", "provider": "github", "required": x == 1},
        ]);
        let manifest = json!({"plugin": "p", "version": "1", "connections": slots});
        let manifest: Manifest = serde_json::from_value(manifest).expect("a manifest");
        let binding = |id: &ConnectionId| BindingRecord {
            connection: id.clone(),
            created: Timestamp::UNIX_EPOCH,
            managed_by: ManagedBy::Store,
            placeholders: placeholders().into(),
            direct: false,
            preferred: None,
            limits: keyward_model::BindingLimits::default(),
        };
        let slots = found.iter().map(|it| ("one".to_owned(), Reference::Id(it.id.clone())));
        let (agent, slots) = (Reference::Id(agent), slots.collect());
        let spec = PluginSpec { manifest, agent, slots };
        let bindings = found.iter().map(|it| binding(&it.id)).collect();
        let plugged = NewPlugin { spec, bindings, by: ManagedBy::Store };
        match there {
            Some(id) => {
                let plug =
                    |_: &PluginRecord| -> Result<NewPlugin, DirectoryError> { Ok(plugged.clone()) };
                drop(self.directory.change_plugin(org_id, &id, &plug).await);
            }
            None => drop(self.directory.add_plugin(org_id, plugged).await),
        }
    }

    /// Creates, changes or removes the app of an org.
    async fn app_changes(&self, Operands { org, x, y }: Operands) {
        let (time, org_id) = (Timestamp::UNIX_EPOCH, &self.orgs[org]);
        let urls = json!({"token": format!("https://{}/token", HOSTS[y + 3])});
        let settings = json!({"user_agent": format!("app/{x}")});
        let record: AppRecord = serde_json::from_value(json!({
            "id": AppId::random(), "org": org_id, "name": "app", "provider": "mcp", "auth": null,
            "client_id": "x", "urls": urls, "settings": settings, "managed_by": "store",
            "created": time, "updated": time,
        }))
        .expect("an app");
        let Some(id) = self.app(org) else {
            return drop(self.directory.add_record(record).await);
        };
        let change = |app: &mut AppRecord| {
            app.spec.urls = record.spec.urls.clone();
            app.spec.settings = record.spec.settings.clone();
        };
        match x {
            0 => drop(self.directory.remove::<App>(org_id, &id, ManagedBy::Store).await),
            _ => drop(self.directory.change::<App>(org_id, &id, change).await),
        }
    }

    async fn step(&mut self, (what, org, x, y): Step) {
        let at = Operands { org, x, y };
        match what {
            0..=5 => self.add(at).await,
            6..=9 => self.bind(at, true).await,
            10 => self.bind(at, false).await,
            11..=18 => self.update(at, what - 11).await,
            19..=22 => self.change_agent(at, what - 19).await,
            23..=25 => self.plug(at).await,
            26..=27 => self.app_changes(at).await,
            _ => {
                if let Some(id) = self.connection(org, x) {
                    self.directory
                        .remove::<Connection>(&self.orgs[org], &id, ManagedBy::Store)
                        .await
                        .ok();
                }
            }
        }
    }

    /// The first placeholder of each of the agent's bindings.
    fn cores(&self, agent: &Agent) -> Vec<PlaceholderCore> {
        let view = self.directory.view();
        let record = view.agent(&agent.org, &agent.id);
        let bindings = record.into_iter().flat_map(|agent| &agent.facts.bindings);
        bindings.filter_map(|it| it.placeholders.values().next()).map(Placeholder::core).collect()
    }

    /// Compares the decisions of both policies for every request.
    fn compare(&self) {
        let (sources, view) = (self.rulebook.sources.load_full(), self.directory.view());
        let fresh = CompiledPolicy::leniently(&sources, view).expect("it compiles").policy();
        let followed = self.rulebook.current();
        for agent in &self.agents {
            assert_eq!(followed.account_names(agent), fresh.account_names(agent));
            let cores = self.cores(agent);
            for (host, path) in HOSTS.iter().flat_map(|host| PATHS.map(|path| (host, path))) {
                for (method, named) in [("GET", None), ("POST", Some("c0")), ("DELETE", None)] {
                    let carried =
                        if method == "DELETE" { &cores[..cores.len().min(1)] } else { &[] };
                    let request = Request { method, host, path, placeholders: carried, named };
                    let decisions = |policy: &Policy| decisions(policy, agent, &request);
                    assert_eq!(
                        decisions(&followed),
                        decisions(&fresh),
                        "{method} {host} {path} of {agent:?}"
                    );
                }
            }
        }
    }
}

struct Request<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    placeholders: &'a [PlaceholderCore],
    named: Option<&'a str>,
}

/// All decisions about a request.
fn decisions(policy: &Policy, agent: &Agent, request: &Request<'_>) -> String {
    let target = Target::parse(Scheme::Https, request.host).expect(request.host);
    let path = DecodedPath::parse(request.path).expect("a path");
    let method = request.method.parse().expect("a method");
    let asked = PolicyRequest {
        target: &target,
        method: &method,
        overrides: &[],
        resources: &[],
        path: &path,
        query: None,
        placeholders: request.placeholders,
        named: request.named,
        own: None,
        operations: RequestedOperations::Unread,
        push: RequestedPush::default(),
    };
    let (route, decided) = (policy.route(agent, &target), policy.decide(agent, &asked));
    format!("{route:?} {decided:?} {:?}", policy.explain(agent, &asked))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_policy_that_followed_changes_decides_as_one_that_is_compiled_again(
        steps in proptest::collection::vec((0usize..30, 0usize..2, 0usize..4, 0usize..4), 1..60),
        every in 1usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            // Some initial resources; otherwise most steps find nothing.
            for number in 0..8 {
                world.step((0, number % 2, number / 2, number % 4)).await;
                world.step((0, number % 2, number / 2, 1 + number % 3)).await;
            }
            for (number, step) in steps.into_iter().enumerate() {
                world.step(step).await;
                if number % every == 0 {
                    world.rulebook.rebuild().await.expect("it compiles");
                    if number % 8 < every {
                        world.compare();
                    }
                }
            }
            world.rulebook.rebuild().await.expect("it compiles");
            world.compare();
        });
    }
}

/// The number of look-ups of a change and of a request, with `count` agents of one connection each.
async fn looked_up(count: usize) -> (u64, u64) {
    let mut samples = Samples::new();
    let agents: Vec<_> = (0..count).map(|number| samples.agent(&format!("a{number}"))).collect();
    for (number, agent) in agents.iter().enumerate() {
        let id = samples.connection(&format!("c{number}"), ["openai", "github"][number % 2]);
        samples.bind(agent, &id);
    }
    let sources = sources(Vec::new());
    let before = samples.view();
    let made = CompiledPolicy::strictly(&sources, before.clone()).expect("it compiles");
    let mut record = samples.connections[0].clone();
    record.facts.state = ConnectionState::Paused;
    let now = View::clone(&before).with(Arc::new(record));
    let (made, change) = shared_map::count(|| made.follow(&sources, Arc::new(now)));
    let policy = made.expect("it compiles").policy();
    let (said, request) = shared_map::count(|| code(&policy, &agents[0], "api.openai.com"));
    assert_eq!(said, Err("connection_paused"));
    (change, request)
}

#[tokio::test]
async fn the_cost_of_a_change_and_a_request_does_not_depend_on_the_number_of_agents() {
    let (few, many) = (looked_up(10).await, looked_up(3_000).await);
    assert_eq!(few.1, many.1, "look-ups of a request");
    // A change examines the shards that it affects, of 64 entries at most on average.
    assert!(many.0 < 500, "{} look-ups of a change, {} among ten", many.0, few.0);
}
