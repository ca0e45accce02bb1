//! What may import what, and where exceptions are: the tables of the checks.

/// The folders of crates that hold several floors. What stands beside them is a floor of the crate's name.
pub(super) const ROOMS: &[(&str, &str)] = &[
    ("rules", "graphql"),
    ("rules", "host_sets"),
    ("rules", "inject"),
    ("rules", "policy"),
    ("rules", "provider"),
    ("state", "crypto"),
    ("state", "directory"),
    ("state", "observe"),
    ("state", "rulebook"),
    ("state", "store"),
    ("vault", "events"),
    ("vault", "grant"),
    ("vault", "grants"),
    ("vault", "keys"),
    ("vault", "lifecycle"),
    ("vault", "oauth"),
    ("vault", "oidc"),
    ("vault", "refresh"),
    ("vault", "sources"),
    ("proxy", "authorize"),
    ("proxy", "base_url"),
    ("proxy", "body"),
    ("proxy", "ca"),
    ("proxy", "exchange"),
    ("proxy", "h2"),
    ("proxy", "limits"),
    ("proxy", "pool"),
    ("proxy", "refusal"),
    ("proxy", "request"),
    ("proxy", "server"),
    ("proxy", "session"),
    ("proxy", "sockets"),
    ("proxy", "streams"),
    ("proxy", "tunnel"),
    ("proxy", "upstream"),
    ("app", "config"),
];

/// Which crate, room of it or part of either may import which; `*`: all. rustc refuses what no part of a crate may use.
pub(super) const FLOORS: &[(&str, &str)] = &[
    ("base", ""),
    ("net", "base"),
    ("envelope", "base"),
    ("hooks", "base"),
    ("ssh", "base"),
    ("inject", "base rules::aws_host rules::rate_limit"),
    ("graphql", ""),
    ("provider", "base graphql inject rules::actions rules::aws_host rules::rate_limit"),
    ("host_sets", "base"),
    (
        "policy",
        "base graphql host_sets inject rules::actions rules::aws_host rules::branches rules::git_push",
    ),
    ("rules", "base graphql inject::names"),
    ("model", "base host_sets inject policy provider rules::branches"),
    ("crypto", "base envelope"),
    ("store", "base"),
    ("observe", "base model policy rules::rate_limit"),
    ("directory", "base crypto inject model observe provider store"),
    (
        "rulebook",
        "base directory inject model observe policy provider rules::actions rules::branches store",
    ),
    ("state", ""),
    ("grant", "base inject net provider ssh"),
    ("keys", "base crypto store"),
    ("vault", "base crypto directory grant model provider store"),
    ("grants", "base crypto directory grant model store vault"),
    ("sources", "base crypto directory inject model net observe store vault"),
    (
        "refresh",
        "base crypto directory grant grants inject model net observe policy provider sources ssh store vault",
    ),
    (
        "lifecycle",
        "base directory grant grants inject model net provider refresh sources store vault",
    ),
    (
        "oauth",
        "base crypto directory grant grants lifecycle model net observe provider refresh store vault",
    ),
    ("oidc", "base crypto grant model net oauth provider vault"),
    ("events", "base crypto directory model net observe store vault"),
    ("inbox", "base crypto directory events hooks model net observe store vault"),
    ("ca", "base crypto::private_file net::tls"),
    ("limits", "base net::evictable"),
    ("backup", "base directory store"),
    ("sockets", "base ca net"),
    ("h2", "base"),
    ("body", "base h2 inject limits policy sockets"),
    ("base_url", "base policy provider"),
    ("refusal", "base base_url body inject limits net policy vault"),
    ("pool", "base body h2 inject net refusal sockets"),
    (
        "proxy",
        "base base_url ca directory graphql inject limits model net observe policy pool provider refusal rulebook rules::git_push rules::rate_limit sockets vault",
    ),
    (
        "session",
        "base directory inject limits model net observe policy proxy::gateway proxy::open_exchanges proxy::probe \
         proxy::record refusal rulebook sockets",
    ),
    (
        "request",
        "base body graphql h2 inject limits policy proxy::gateway refusal rules::git_push session sockets",
    ),
    (
        "authorize",
        "base body directory inject limits model observe policy proxy::gateway proxy::record refusal request session",
    ),
    (
        "upstream",
        "authorize base body inject limits net policy pool proxy::gateway refusal request session sockets rules::rate_limit",
    ),
    ("tunnel", "base net observe policy proxy::gateway proxy::record refusal session sockets"),
    (
        "exchange",
        "authorize base base_url body directory inject limits net observe policy provider proxy::connect_link \
         proxy::gateway proxy::probe proxy::record refusal request rules::git_push session sockets tunnel upstream vault",
    ),
    ("server", "base body exchange h2 net proxy::gateway proxy::record session sockets"),
    (
        "streams",
        "authorize base base_url body directory exchange inject limits net observe policy proxy::gateway proxy::probe \
         proxy::record refusal request server session sockets ssh tunnel vault",
    ),
    ("databases", "base directory inject model policy proxy"),
    (
        "api",
        "backup base base_url ca crypto databases directory events graphql hooks host_sets inbox inject keys model net oauth observe oidc policy provider proxy rulebook rules::git_push rules::rate_limit store vault",
    ),
    ("console", "api base model policy provider"),
    (
        "config",
        "api backup base base_url crypto directory grant inject model net observe policy provider rulebook vault",
    ),
    ("app", "*"),
    ("cli", "*"),
    ("lib", "*"),
    ("main", "*"),
];

/// Where a secret may be read: to seal or send it, for TLS, to verify webhooks, and to show a new token once.
pub(super) const MAY_EXPOSE: &[&str] = &[
    "crates/hooks/src/key.rs",
    "crates/inbox/src/keys.rs",
    "crates/state/src/crypto/",
    "crates/rules/src/inject/",
    "crates/ssh/src/private_key.rs",
    "crates/vault/src/grant/",
    "crates/rules/src/provider/connection_url.rs",
    "crates/rules/src/provider/pasted.rs",
    "crates/databases/src/login.rs",
    "crates/databases/src/bolt/login.rs",
    "crates/databases/src/mongodb/login.rs",
    "crates/databases/src/mysql/login.rs",
    "crates/databases/src/postgres/login.rs",
    "crates/databases/src/redis/login.rs",
    "crates/net/src/corporate.rs",
    "crates/net/src/tls.rs",
    "crates/vault/src/events/keys.rs",
    "crates/vault/src/oauth/",
    "crates/vault/src/sources/",
    "crates/vault/src/oidc/id_token.rs",
    "crates/api/src/tokens.rs",
    "crates/app/src/services/shared_store.rs",
    "crates/backup/src/encryption.rs",
];

/// Where the environment may be read: configuration, a master key that lies in a variable, and PATH and HOME of programs.
pub(super) const MAY_READ_ENVIRONMENT: &[&str] = &[
    "crates/app/src/config/",
    "src/cli/",
    "crates/model/build.rs",
    "crates/rules/build.rs",
    "crates/state/src/crypto/command.rs",
];

/// Where a socket may be opened outwards.
pub(super) const MAY_DIAL: &[&str] = &["crates/net/src/"];

/// Where YAML may be read: everything behind has parsed values.
pub(super) const MAY_READ_YAML: &[&str] = &[
    "crates/app/src/config/",
    "crates/hooks/src/written.rs",
    "crates/model/src/source/kind.rs",
    "crates/rules/build.rs",
    "crates/rules/src/host_sets/",
    "crates/rules/src/provider/",
];

/// Where errors need no type, because a person reads them next.
pub(super) const MAY_USE_ANYHOW: &[&str] = &["crates/app/src/", "src/cli/"];

/// Longer files are usually two stories. What is shipped and its tests count apart.
pub(super) const FILE_LINES_MAX: usize = 500;

/// In `crates/proxy/`, where every peer has its longest function: a screen.
pub(super) const PROXY_FUNCTION_LINES_MAX: usize = 59;

/// The most lines of shipped code of each crate, as `size` counts them.
pub(super) const CODE_LINES_MAX: &[(&str, usize)] = &[
    ("api", 19_201),
    ("app", 12_189),
    ("backup", 700),
    ("base", 3_665),
    ("console", 11_275),
    ("databases", 11_248),
    ("envelope", 184),
    ("hooks", 2_009),
    ("inbox", 1_700),
    ("keyward", 24_414),
    ("model", 5_383),
    ("net", 2_965),
    ("proxy", 16_743),
    ("rules", 17_677),
    ("ssh", 645),
    ("state", 19_451),
    ("vault", 21_280),
];

/// Words of ids of providers that are English, protocols or formats, so that they name no vendor where they stand.
pub(super) const COMMON_WORDS: &str = "\
    admin app bindings black blob bolt bot box calendar close cloud com connect console crm cursor \
    custom customer data database dev digits docs drive exchange face fly forms front gateway \
    http hub instant linear management maps mcp meet mongodb mysql new observability outlook \
    parallel people port postgres redis render replicate resend rev search segment self ssh \
    stack storage store task tasks test threads together trigger vault vector workspace you";

/// Names of crates.
pub(super) const CRATES_OF_VENDORS: &[&str] = &["aws_lc_rs", "aws_sigv4::", "aws_credential_types"];

/// Where a vendor or a product may be named, by its words, and why.
pub(super) const MAY_NAME_VENDORS: &[(&str, &str, &str)] = &[
    ("crates/rules/src/", "aws", "the published kinds `aws_sigv4` and `aws_role`"),
    ("crates/rules/src/provider/", "github", "the published kind `github_app`"),
    ("crates/rules/src/inject/scrub/flush_points.rs", "amazon", "a media type"),
    (
        "crates/rules/src/host_sets/mod.rs",
        "docker github hugging npm onedrive rubygems terraform zoom",
        "published ids of sets of hosts",
    ),
    ("crates/proxy/src/", "aws", "the published kind `aws_sigv4`"),
    ("crates/databases/src/login.rs", "aws", "the published kind `aws_sigv4`"),
    ("crates/vault/src/grant/", "aws github", "the published kinds `aws_sigv4` and `github_app`"),
    ("crates/vault/src/grant/oauth/aws_role.rs", "amazon", "the published kind `aws_role`"),
    (
        "crates/vault/src/grant/oauth/service_account.rs",
        "google",
        "the published kind `service_account`",
    ),
    ("crates/vault/src/sources/", "aws", "published kinds of secret sources"),
    (
        "crates/console/src/pages/honeytokens.rs",
        "anthropic aws github gitlab openai sendgrid slack stripe",
        "examples",
    ),
    ("crates/console/src/pages/rules/tester.rs", "github", "an example"),
    (
        "crates/hooks/src/",
        "amazon aws google hubspot paypal plaid",
        "published forms of signature schemes",
    ),
    ("crates/base/src/id.rs", "ses", "the beginning of ids of sessions"),
    ("crates/net/src/corporate.rs", "google", "a name of metadata services"),
    (
        "src/cli/",
        "amazon aws backblaze chatgpt cloudflare docker github google klaviyo kubernetes npm openai pypi",
        "programs and their files, of a run, `doctor` and `import`",
    ),
];
