//! Who answers: the provider by host, and the server software by what its bytes show.
//!
//! Names are OpenTelemetry's `gen_ai.provider.name` where it has one.

use crate::http::{Header, header};
use crate::wire::WireApi;

/// Suffixes (or, with a leading `*`, substrings) of hosts, and the provider's name.
const HOSTS: &[(&str, &str)] = &[
    ("api.anthropic.com", "anthropic"),
    ("claude.ai", "anthropic"),
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("inference.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("openai.com", "openai"),
    ("chatgpt.com", "openai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("cloudcode-pa.googleapis.com", "gcp.gemini"),
    ("*aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("*aiplatform", "gcp.vertex_ai"),
    ("*bedrock", "aws.bedrock"),
    ("*sagemaker", "aws.sagemaker"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("mistral.ai", "mistral_ai"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("groq.com", "groq"),
    ("x.ai", "x_ai"),
    ("perplexity.ai", "perplexity"),
    ("together.xyz", "together_ai"),
    ("together.ai", "together_ai"),
    ("fireworks.ai", "fireworks_ai"),
    ("cerebras.ai", "cerebras"),
    ("sambanova.ai", "sambanova"),
    ("nvidia.com", "nvidia"),
    ("githubcopilot.com", "github_copilot"),
    ("models.github.ai", "github_models"),
    ("moonshot.ai", "moonshot_ai"),
    ("moonshot.cn", "moonshot_ai"),
    ("z.ai", "z_ai"),
    ("bigmodel.cn", "z_ai"),
    ("dashscope.aliyuncs.com", "alibaba_cloud"),
    ("dashscope-intl.aliyuncs.com", "alibaba_cloud"),
    ("minimax.io", "minimax"),
    ("minimaxi.com", "minimax"),
    ("siliconflow.cn", "siliconflow"),
    ("siliconflow.com", "siliconflow"),
    ("huggingface.co", "hugging_face"),
    ("deepinfra.com", "deepinfra"),
    ("novita.ai", "novita"),
    ("hyperbolic.xyz", "hyperbolic"),
    ("baseten.co", "baseten"),
    ("voyageai.com", "voyage_ai"),
    ("jina.ai", "jina_ai"),
    ("ai21.com", "ai21"),
    ("watsonx.ai", "ibm.watsonx.ai"),
    ("*ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("databricks.com", "databricks"),
    ("azuredatabricks.net", "databricks"),
    ("snowflakecomputing.com", "snowflake"),
    ("gateway.ai.cloudflare.com", "cloudflare"),
    ("ai-gateway.vercel.sh", "vercel"),
    ("ollama.com", "ollama"),
    ("inference.baidubce.com", "baidu"),
    ("volces.com", "volcengine"),
];

/// The provider of a call: by host, by what stands in the path, by headers, else the wire API's own.
pub(crate) fn provider(api: WireApi, authority: Option<&str>, target: &str, headers: &[Header]) -> &'static str {
    if let Some(known) = authority.and_then(by_host) {
        return match known {
            // A gateway names the real provider in its path.
            "cloudflare" => by_gateway_path(target).unwrap_or(known),
            "azure.ai.inference" if api == WireApi::AnthropicMessages => "anthropic",
            _ => known,
        };
    }
    by_path(target).or_else(|| by_headers(headers)).unwrap_or_else(|| by_api(api))
}

fn by_host(authority: &str) -> Option<&'static str> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.to_ascii_lowercase();
    let fits = |pattern: &str| match pattern.strip_prefix('*') {
        // Part of a name only on the clouds' own domains: any host may be called bedrock-something.
        Some(part) => {
            host.contains(part)
                && [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".googleapis.com", ".ibm.com", "googleapis.com"]
                    .iter()
                    .any(|domain| host.ends_with(domain))
        }
        None => host.strip_suffix(pattern).is_some_and(|front| front.is_empty() || front.ends_with('.')),
    };
    HOSTS.iter().find(|(pattern, _)| fits(pattern)).map(|(_, name)| *name)
}

fn by_gateway_path(target: &str) -> Option<&'static str> {
    [
        ("/anthropic/", "anthropic"),
        ("/azure-openai/", "azure.ai.openai"),
        ("/openai/", "openai"),
        ("/google-ai-studio/", "gcp.gemini"),
        ("/google-vertex-ai/", "gcp.vertex_ai"),
        ("/aws-bedrock/", "aws.bedrock"),
        ("/openrouter/", "openrouter"),
        ("/mistral/", "mistral_ai"),
        ("/cohere/", "cohere"),
        ("/deepseek/", "deepseek"),
        ("/groq/", "groq"),
        ("/grok/", "x_ai"),
    ]
    .iter()
    .find(|(part, _)| target.contains(part))
    .map(|(_, name)| *name)
}

fn by_path(target: &str) -> Option<&'static str> {
    let path = crate::wire::registry::path_of(target);
    if path.contains("/openai/deployments/") || (path.contains("/openai/") && target.contains("api-version=")) {
        return Some("azure.ai.openai");
    }
    if path.contains("/projects/") && path.contains("/locations/") && path.contains("/models/") {
        return Some("gcp.vertex_ai");
    }
    path.contains("/backend-api/codex/").then_some("openai")
}

fn by_headers(headers: &[Header]) -> Option<&'static str> {
    let authorization = header(headers, "authorization").unwrap_or("");
    let has = |name: &str| header(headers, name).is_some();
    if authorization.starts_with("AWS4-HMAC-SHA256") {
        return Some(if authorization.contains("/sagemaker/") { "aws.sagemaker" } else { "aws.bedrock" });
    }
    if has("copilot-integration-id") {
        return Some("github_copilot");
    }
    if has("anthropic-version") {
        return Some("anthropic");
    }
    (has("x-goog-api-key") && !has("authorization")).then_some("gcp.gemini")
}

fn by_api(api: WireApi) -> &'static str {
    match api {
        WireApi::AnthropicMessages => "anthropic",
        WireApi::OpenAiChat
        | WireApi::OpenAiResponses
        | WireApi::OpenAiCompletions
        | WireApi::OpenAiEmbeddings
        | WireApi::OpenAiImages
        | WireApi::OpenAiAudio
        | WireApi::OpenAiModerations
        | WireApi::OpenAiRealtime => "openai",
        WireApi::GeminiGenerateContent | WireApi::GeminiLive | WireApi::GeminiInteractions => "gcp.gemini",
        WireApi::BedrockInvoke | WireApi::BedrockConverse => "aws.bedrock",
        WireApi::OllamaChat | WireApi::OllamaGenerate | WireApi::OllamaEmbed => "ollama",
        WireApi::CohereChat | WireApi::CohereEmbed | WireApi::CohereRerank => "cohere",
        WireApi::Mcp => "mcp",
    }
}

/// True when the provider is only the wire API's own, so that the answer's shape may correct it.
pub(crate) fn is_guess(api: WireApi, authority: Option<&str>, target: &str, headers: &[Header]) -> bool {
    authority.and_then(by_host).is_none()
        && by_path(target).is_none()
        && by_headers(headers).is_none()
        && api != WireApi::Mcp
}

/// The server software, by the answer's headers.
pub(crate) fn server_by_headers(headers: &[Header]) -> Option<&'static str> {
    for known in headers {
        let name = known.name.to_ascii_lowercase();
        let kind = match name.as_str() {
            name if name.starts_with("x-litellm-") => "litellm",
            name if name.starts_with("x-openrouter-") => "openrouter",
            name if name.starts_with("x-portkey-") => "portkey",
            name if name.starts_with("helicone-") => "helicone",
            name if name.starts_with("x-kong-") => "kong",
            "cf-aig-cache-status" | "cf-aig-log-id" | "cf-aig-step" => "cloudflare-ai-gateway",
            "x-vllm-request-id" => "vllm",
            "x-compute-characters" | "x-compute-type" => "text-generation-inference",
            "server" => match server_name(&known.value) {
                Some(kind) => kind,
                None => continue,
            },
            _ => continue,
        };
        return Some(kind);
    }
    None
}

fn server_name(value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    [
        ("llama.cpp", "llama.cpp"),
        ("llama-cpp", "llama.cpp"),
        ("ollama", "ollama"),
        ("vllm", "vllm"),
        ("sglang", "sglang"),
        ("lmstudio", "lmstudio"),
        ("lm studio", "lmstudio"),
        ("litellm", "litellm"),
        ("openrouter", "openrouter"),
        ("tgi", "text-generation-inference"),
        ("envoy-ai-gateway", "envoy-ai-gateway"),
    ]
    .iter()
    .find(|(part, _)| value.contains(part))
    .map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(api: WireApi, host: &str, target: &str) -> &'static str {
        provider(api, Some(host), target, &[])
    }

    #[test]
    fn hosts_name_the_provider() {
        use WireApi::*;
        assert_eq!(of(AnthropicMessages, "api.anthropic.com", "/v1/messages"), "anthropic");
        assert_eq!(of(OpenAiChat, "api.openai.com:443", "/v1/chat/completions"), "openai");
        assert_eq!(of(OpenAiChat, "my.openai.azure.com", "/openai/deployments/x/chat/completions"), "azure.ai.openai");
        assert_eq!(of(OpenAiChat, "API.DeepSeek.com", "/chat/completions"), "deepseek");
        assert_eq!(
            of(AnthropicMessages, "europe-west1-aiplatform.googleapis.com", "/v1/x:rawPredict"),
            "gcp.vertex_ai"
        );
        assert_eq!(of(BedrockInvoke, "bedrock-runtime.us-east-1.amazonaws.com", "/model/x/invoke"), "aws.bedrock");
        assert_eq!(of(OpenAiChat, "netflix.ai", "/v1/chat/completions"), "openai");
        assert_eq!(of(OpenAiChat, "127.0.0.1:8000", "/v1/chat/completions"), "openai");
        assert_eq!(of(OpenAiChat, "[::1]:8000", "/v1/chat/completions"), "openai");
        assert_eq!(of(OllamaChat, "localhost:11434", "/api/chat"), "ollama");
        assert_eq!(of(AnthropicMessages, "gateway.ai.cloudflare.com", "/v1/a/g/anthropic/v1/messages"), "anthropic");
    }

    #[test]
    fn headers_show_the_server() {
        let header = |name: &str, value: &str| [Header { name: name.into(), value: value.into() }];
        assert_eq!(server_by_headers(&header("X-LiteLLM-Version", "1")), Some("litellm"));
        assert_eq!(server_by_headers(&header("Server", "llama.cpp")), Some("llama.cpp"));
        assert_eq!(server_by_headers(&header("server", "uvicorn")), None);
    }
}
