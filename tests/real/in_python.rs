//! Python's HTTP libraries and the SDKs of providers, started by `keyward run`.

use crate::api::*;
use crate::served::{Program, served};
use crate::stage::installed;

fn python(script: &str) -> Program {
    Program::script("real-venv/bin/python", &[], &format!("python/{script}"))
}

/// A user's own file of the name that Python imports at its start runs too.
const UNCONFIGURED: &str = "
mkdir own
echo 'import builtins; builtins.own_sitecustomize = \"ran\"' > own/sitecustomize.py
PYTHONPATH=$PYTHONPATH:own \"$1\" unconfigured.py";

served! {
    urllib_is_served: python("lib_urllib.py"), OPENAI, ["GET /v1/models"];
    requests_is_served: python("lib_requests.py"), OPENAI, ["GET /v1/models"];
    clients_that_read_no_variable_are_served: Program::shell(UNCONFIGURED)
        .argument(installed("real-venv/bin/python").to_str().expect("a path of letters"))
        .with("python/unconfigured.py"), OPENAI, ["GET /v1/models"; 7];
    httpx_is_served: python("lib_httpx.py"), OPENAI, ["GET /v1/models"];
    aiohttp_is_served: python("lib_aiohttp.py"), OPENAI, ["GET /v1/models"];
    aiohttps_websocket_is_served: python("aiohttp_websocket.py"), OPENAI, ["GET /v1/models"];
    openai_is_served: python("openai_chat.py"), OPENAI, ["POST /v1/chat/completions"];
    openai_is_served_a_stream: python("openai_stream.py"), OPENAI, ["POST /v1/chat/completions"];
    openais_async_client_is_served: python("openai_async.py"), OPENAI, ["POST /v1/responses"];
    anthropic_is_served: python("anthropic_message.py"), ANTHROPIC, ["POST /v1/messages"];
    anthropic_is_served_a_stream: python("anthropic_stream.py"), ANTHROPIC, ["POST /v1/messages"];
    google_genai_is_served: python("google_genai.py"), GEMINI,
        ["POST /v1/models/gemini-2.5-flash:generateContent"];
    stripe_is_served: python("stripe_balance.py"), STRIPE, ["GET /v1/balance"];
    slack_sdk_is_served: python("slack_post.py"), SLACK, ["POST /api/chat.postMessage"];
    slack_sdks_async_client_is_served: python("slack_async.py"), SLACK,
        ["POST /api/chat.postMessage"];
    notion_client_is_served: python("notion_me.py"), NOTION, ["GET /v1/users/me"];
    huggingface_hub_is_served: python("huggingface_whoami.py"), HUGGING_FACE,
        ["GET /api/whoami-v2"];
    langchain_openai_is_served: python("langchain_chat.py"), OPENAI,
        ["POST /v1/chat/completions"];
    litellm_is_served: python("litellm_chat.py"), OPENAI, ["POST /v1/chat/completions"];
    litellm_is_served_by_another_provider: python("litellm_anthropic.py"), ANTHROPIC,
        ["POST /v1/messages"];
}
