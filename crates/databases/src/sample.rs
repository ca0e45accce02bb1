//! A permitted login for tests.

use std::sync::Arc;

use jiff::Timestamp;

use keyward_base::database::{
    DatabaseEndpoint, DatabaseProtocol, Seeds, SessionAttrs, StreamSecurity,
};
use keyward_base::host::{Scheme, Target};
use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;
use keyward_rules::inject::credential::{Clears, Credential, Write};
use keyward_rules::inject::placement::{Location, LoginPart, Scoped};
use keyward_rules::inject::scrub::Needles;
use keyward_rules::policy::{Account, AccountState, PermittedLogin, Policy};

/// The login of the connection `main` at the database `app` of `db.test`.
pub fn permitted(protocol: DatabaseProtocol, user: Option<&str>, password: &str) -> PermittedLogin {
    permitted_at(protocol, "app", user, password)
}

/// The same at another database.
pub fn permitted_at(
    protocol: DatabaseProtocol,
    database: &str,
    user: Option<&str>,
    password: &str,
) -> PermittedLogin {
    let target = Target::parse(Scheme::Https, "db.test:5432").expect("a target");
    let endpoint = DatabaseEndpoint {
        protocol,
        target,
        database: database.to_owned(),
        security: StreamSecurity::VerifiedTls,
        auth_source: None,
        seeds: Seeds::default(),
        session_attrs: SessionAttrs::Any,
    };
    let id = ConnectionId::random();
    let account = Account {
        id: id.clone(),
        name: "main".into(),
        provider: protocol.as_str().into(),
        hosts: Arc::default(),
        paths: Arc::default(),
        places: Arc::default(),
        signs: None,
        has_slashes_in_segments: false,
        state: AccountState::Active,
        remedy: None,
        settings: None,
        database: Some(Arc::new(endpoint)),
        is_ssh: false,
    };
    let permit = Arc::new(Policy::permit_database_test(&account).expect("it is a database's"));
    let write = |part, text: &str| Write {
        at: Location::Login(part),
        value: Secret::from(text.to_owned()),
    };
    let mut what = vec![write(LoginPart::Password, password)];
    what.extend(user.map(|user| write(LoginPart::User, user)));
    let credential = Arc::new(Credential {
        connection: id,
        generation: 1,
        expires: None,
        writes: vec![Scoped { hosts: Vec::new(), paths: Vec::new(), what }],
        clears: Clears::default(),
        rate_limit: Arc::default(),
        needles: Arc::new(Needles::new(Vec::new(), Vec::new())),
        renews: None,
        signer: None,
        tls: None,
    });
    let tied = PermittedLogin::new(permit, credential, Timestamp::UNIX_EPOCH);
    tied.expect("the credential is of the same connection")
}
