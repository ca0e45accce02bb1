//! Sessions in the policy in force: changes during a session, and the cost of a request, which does not depend on the
//! number of users, connections and sessions.

use super::*;
use crate::directory::Visibility;
use jiff::{SignedDuration, Timestamp};
use keyward_base::id::UserId;
use keyward_base::shared_map;
use keyward_model::{Record, Reference, Role, Session, SessionSpec, User, UserFacts, UserSpec};

/// A directory in memory with an agent that serves end users at OpenAI.
struct World {
    directory: Arc<Directory>,
    rulebook: Arc<Rulebook>,
    agent: Agent,
}

impl World {
    async fn new() -> Self {
        let (directory, rulebook, agent) = live(Vec::new()).await;
        let world = Self { directory, rulebook, agent };
        world.serve(&["openai"]).await;
        world
    }

    async fn serve(&self, providers: &[&str]) {
        let (org, id) = (&self.agent.org, &self.agent.id);
        let serve = |it: &mut Record<keyward_model::Agent>| {
            it.spec.user_providers = providers.iter().map(|id| (*id).to_owned()).collect();
        };
        self.directory.change::<keyward_model::Agent>(org, id, serve).await.expect("a change");
    }

    async fn user(&self, name: &str) -> UserId {
        let spec =
            UserSpec { name: name.to_owned(), email: None, role: Role::EndUser, paused: false };
        let (by, facts) = (ManagedBy::Store, UserFacts::default());
        let user = self.directory.add::<User>(&self.agent.org, by, spec, facts).await;
        user.expect("a user").id.clone()
    }

    async fn connection(&self, name: &str, provider: &str, owner: &UserId) -> ConnectionId {
        let mut record = Samples::new().made(name, provider);
        record.facts.owner = Some(owner.clone());
        record.facts.visibility = Visibility::Private;
        self.directory.add_record(record).await.expect("a connection").id.clone()
    }

    async fn session(&self, user: &UserId) -> Agent {
        let spec = SessionSpec {
            agent: Reference::Id(self.agent.id.clone()),
            user: Some(Reference::Id(user.clone())),
            connections: None,
            environment: None,
            label: None,
        };
        let expires = Timestamp::now() + SignedDuration::from_hours(1);
        let made = self.directory.add_session(&self.agent.org, spec, expires, 20_000).await;
        self.directory.view().in_session(&made.expect("a session").session).expect("both exist")
    }

    /// The code of a refusal at a host, or the rule that permits, with the policy in force.
    async fn said(&self, agent: &Agent, host: &str) -> Result<String, &'static str> {
        self.rulebook.rebuild().await.expect("it compiles");
        let incremental = code(&self.rulebook.current(), agent, host);
        let whole = strictly(&sources(Vec::new()), self.directory.view()).expect("a policy");
        assert_eq!(incremental, code(&whole, agent, host), "as a full compilation decides");
        incremental
    }
}

const OPENAI: &str = "api.openai.com";

#[tokio::test]
async fn a_live_session_follows_its_users_connections() {
    let world = World::new().await;
    let (one, two) = (world.user("1").await, world.user("2").await);
    let own = bind_work(&world.directory, &world.agent).await;
    let session = world.session(&one).await;
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"), "never the agent's own");
    assert_eq!(world.said(&world.agent, OPENAI).await, Ok(format!("binding:{own}")));
    let of_two = world.connection("of-two", "openai", &two).await;
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"), "never another user's");
    let later = world.connection("later", "openai", &one).await;
    assert_eq!(world.said(&session, OPENAI).await, Ok(format!("binding:{later}")));
    world.connection("gh", "github", &one).await;
    assert_eq!(world.said(&session, "api.github.com").await, Err("default_deny"), "not served");
    world.serve(&["*"]).await;
    assert!(world.said(&session, "api.github.com").await.is_ok());
    world.serve(&["github"]).await;
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"));
    world.serve(&["*"]).await;
    let org = &world.agent.org;
    let give = |owner: &UserId| {
        let owner = Some(owner.clone());
        move |it: &mut ConnectionRecord| it.facts.owner.clone_from(&owner)
    };
    world.directory.change::<Connection>(org, &later, give(&two)).await.expect("a change");
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"), "given away");
    world.directory.change::<Connection>(org, &of_two, give(&one)).await.expect("a change");
    assert_eq!(world.said(&session, OPENAI).await, Ok(format!("binding:{of_two}")));
    let pause = |it: &mut ConnectionRecord| it.facts.state = ConnectionState::Paused;
    world.directory.change::<Connection>(org, &of_two, pause).await.expect("a change");
    assert_eq!(world.said(&session, OPENAI).await, Err("connection_paused"));
    world.directory.remove::<Connection>(org, &of_two, ManagedBy::Store).await.expect("a removal");
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"));
}

#[tokio::test]
async fn an_ended_session_and_one_of_a_paused_user_or_agent_may_use_nothing() {
    let world = World::new().await;
    let user = world.user("1").await;
    world.connection("c", "openai", &user).await;
    let (org, by) = (&world.agent.org, ManagedBy::Store);
    let ended = world.session(&user).await;
    assert!(world.said(&ended, OPENAI).await.is_ok());
    let id = &ended.session.as_ref().expect("a session").id;
    world.directory.remove::<Session>(org, id, by).await.expect("a removal");
    assert_eq!(world.said(&ended, OPENAI).await, Err("default_deny"));
    let session = world.session(&user).await;
    for paused in [true, false] {
        let pause = |it: &mut Record<User>| it.spec.paused = paused;
        world.directory.change::<User>(org, &user, pause).await.expect("a change");
        assert_eq!(world.said(&session, OPENAI).await.is_ok(), !paused);
    }
    let hold = |it: &mut Record<keyward_model::Agent>| it.facts.held = true;
    let agent = &world.agent.id;
    world.directory.change::<keyward_model::Agent>(org, agent, hold).await.expect("a change");
    assert_eq!(world.said(&session, OPENAI).await, Err("default_deny"));
}

#[tokio::test]
async fn a_rule_that_grants_the_agent_a_connection_grants_it_in_no_session() {
    let using = RuleSpec {
        use_connection: Some("work".to_owned()),
        agents: Some(vec!["ci".to_owned()]),
        ..text("grant", &[OPENAI])
    };
    let world = World::new().await;
    let user = world.user("1").await;
    let (with, without) = (world.session(&user).await, world.session(&world.user("2").await).await);
    let own = world.connection("own", "openai", &user).await;
    world.directory.add_record(Samples::new().made("work", "openai")).await.expect("added");
    let change = world.rulebook.change().await;
    let catalogue = Arc::new(Catalogue::built_in());
    let rules = vec![placed(using)];
    change
        .apply(PolicyInputs::new(catalogue, DefaultAction::Deny, rules, 10))
        .expect("it compiles");
    let said = |agent: &Agent| code(&world.rulebook.current(), agent, OPENAI);
    assert_eq!(said(&world.agent), Ok("file:grant".to_owned()));
    assert_eq!(said(&without), Err("connection_missing"));
    assert_eq!(said(&with), Ok(format!("binding:{own}")));
}

#[tokio::test]
async fn a_rule_that_lost_its_action_restricts_the_connection_in_a_session_too() {
    let world = World::new().await;
    let user = world.user("1").await;
    let session = world.session(&user).await;
    let own = world.connection("own", "openai", &user).await;
    let share = |it: &mut ConnectionRecord| it.facts.visibility = Visibility::Shared;
    world.directory.change::<Connection>(&world.agent.org, &own, share).await.expect("a change");
    assert_eq!(world.said(&session, OPENAI).await, Ok(format!("binding:{own}")));
    for agents in [None, Some(vec!["ci".to_owned()])] {
        let posts = RuleSpec {
            use_connection: Some("own".to_owned()),
            methods: vec!["POST".to_owned()],
            actions: vec!["gone".to_owned()],
            agents,
            ..text("posts", &[OPENAI])
        };
        let (catalogue, rules) = (Arc::new(Catalogue::built_in()), vec![placed(posts)]);
        let sources = PolicyInputs::new(catalogue, DefaultAction::Deny, rules, 10);
        world.rulebook.change().await.apply(sources).expect("it compiles");
        assert_eq!(code(&world.rulebook.current(), &session, OPENAI), Err("denied"));
    }
}

/// The number of look-ups of a new session and of a request in a session, with this many users of one connection each
/// and this many sessions.
async fn looked_up(users: usize, sessions: usize) -> (u64, u64) {
    let world = World::new().await;
    let mut first = None;
    for number in 0..users {
        let user = world.user(&format!("{number}")).await;
        world.connection(&format!("c{number}"), "openai", &user).await;
        if number < sessions {
            world.session(&user).await;
        }
        first.get_or_insert(user);
    }
    world.rulebook.rebuild().await.expect("it compiles");
    let session = world.session(&first.expect("a user")).await;
    let (compiled, new) = shared_map::count(|| world.rulebook.compile());
    compiled.expect("it compiles");
    let policy = world.rulebook.current();
    let (said, request) = shared_map::count(|| code(&policy, &session, OPENAI));
    assert!(said.is_ok(), "{said:?}");
    (new, request)
}

#[tokio::test]
async fn the_cost_of_a_new_session_and_a_request_does_not_depend_on_the_number_of_users() {
    let (few, many) = (looked_up(3, 2).await, looked_up(1_000, 100).await);
    assert_eq!(few.1, many.1, "look-ups of a request");
    // A change examines the shards that it affects, of 64 entries at most on average.
    assert!(many.0 < 500, "{} look-ups of a new session, {} among three users", many.0, few.0);
}
