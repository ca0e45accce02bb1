//! Command-line programs and programs in compiled languages, started by `keyward run`.

use crate::api::*;
use crate::served::{Program, served};
use crate::stage::installed;

/// What answers by JSON prints, as a line.
const NAMED: &str = r#"sed -n 's/.*"data":\[{"id":"\([a-z]*\)".*/answer: \1/p'"#;

fn curl() -> Program {
    Program::shell(&format!(
        "curl -sSf -H \"Authorization: Bearer $OPENAI_API_KEY\" \
         https://api.openai.com/v1/models | {NAMED}"
    ))
}

fn wget() -> Program {
    Program::shell(&format!(
        "wget -qO- --tries=1 --header=\"Authorization: Bearer $OPENAI_API_KEY\" \
         https://api.openai.com/v1/models | {NAMED}"
    ))
}

fn gh() -> Program {
    Program::of(&["gh", "api", "user", "--jq", "\"answer: \" + .login"])
}

fn go() -> Program {
    // It builds with what is here, and asks nobody for more.
    let line = "GO111MODULE=off GOTOOLCHAIN=local go run models.go";
    Program::shell(line).with("go/models.go").cache("GOCACHE", "real-go")
}

fn rust() -> Program {
    let client = installed("real-rust/debug/models");
    Program::of(&[client.to_str().expect("a path of letters")])
}

fn java() -> Program {
    Program::of(&["java", "Models.java"]).with("java/Models.java")
}

fn php() -> Program {
    Program::of(&["php", "models.php"]).with("php/models.php")
}

served! {
    curl_is_served: curl(), OPENAI, ["GET /v1/models"];
    wget_is_served: wget(), OPENAI, ["GET /v1/models"];
    gh_is_served: gh(), GITHUB, ["GET /user"];
    go_is_served: go(), OPENAI, ["GET /v1/models"];
    reqwest_is_served: rust(), OPENAI, ["GET /v1/models"];
    the_curl_of_php_is_served: php(), OPENAI, ["GET /v1/models"];
    java_is_served_with_an_authenticator: java(), OPENAI, ["GET /v1/models"];
}
