//! What agents write when they ask the model for something in their own name. Sentences are lower case where they are
//! looked for in system messages, and as sent where they begin a user message.

/// Beginnings of user messages that ask for a summary to go on from.
pub(in crate::turn) const SUMMARY_REQUESTS: &[&str] = &[
    "Your task is to create a detailed summary of",
    "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.",
    "You are performing a CONTEXT CHECKPOINT COMPACTION",
    "First, reason in your scratchpad. Then, generate the <state_snapshot>.",
    "Provide a detailed prompt for continuing our conversation above",
    "Provide a detailed but concise summary of our conversation above",
    "Summarize our conversation so far",
    "*Briefly* summarize this partial conversation about programming",
    "The current conversation is rapidly running out of context",
    "Please provide a detailed summary of the conversation so far",
    "Create a structured handoff summary",
    "Create a structured checkpoint summary",
    "Create a new anchored summary from the conversation history",
    "Update the anchored summary below",
    "Create a structured summary of this conversation branch",
    "Summarize this session for continuation",
    "Summarize the following agent conversation turns",
    "You are a summarization agent creating",
    "You are updating a context compaction summary",
];

/// Sentences near the beginning of such a user message.
pub(in crate::turn) const SUMMARY_SENTENCES: &[&str] = &[
    "create a detailed summary of the conversation so far",
    "Create a handoff summary for another LLM that will resume the task",
    "generate the <state_snapshot>",
];

/// Parts of system messages of calls that summarise a conversation.
pub(in crate::turn) const SUMMARY_SYSTEMS: &[&str] = &[
    "tasked with summarizing conversations",
    "you are the component that summarizes internal chat history",
    "context summarization assistant",
    "anchored context summarization",
    "you are a summarization agent creating",
    "distilling chat history into",
    "summarize the provided coding session into",
];

/// Beginnings of user messages that ask for something that is not the person's question.
pub(in crate::turn) const SIDE_REQUESTS: &[&str] = &[
    "Generate a title for this conversation",
    "Please write a 5-10 word title for the following conversation",
    "Generate a concise title for this conversation",
    "Generate a concise, sentence-case title",
    "Generate a short title for",
    "Generate a short session title",
    "Generate a concise chat title",
    "Create a concise title for",
    "Analyze *only* the content and structure of your immediately preceding response",
    "[SUGGESTION MODE:",
    "Describe your most recent action in",
    "Based on the conversation so far, provide a concise description of this session",
    "Based on this conversation, generate a short",
    "<policy_spec>",
    "The user stepped away and is coming back.",
    "Extract any file paths that this command reads or modifies",
    "Summarize this coding conversation in under 50 characters",
    "Warmup",
    "Summarize the user's primary intent or goal in this conversation",
    "Summarize the following tool output to be a maximum of",
    "Generate a concise git commit message for these changes",
    "Generate a concise, single-line task title",
    "The following is the text to summarize:",
    "Please analyze the conversation history to determine the possibility that the conversation is stuck",
    "### Task:\nGenerate a concise",
    "### Task:\nGenerate 1-3 broad tags",
    "### Task:\nSuggest 3-5 relevant follow-up",
];

/// Parts of system messages of calls without tools.
pub(in crate::turn) const SIDE_SYSTEMS: &[&str] = &[
    "you are a title generator",
    "write a 5-10 word title",
    "coming up with a succinct title",
    "analyze if this message indicates a new conversation topic",
    "summarize this coding conversation",
    "analyze this message and come up with a single positive",
    "your task is to process bash commands that an ai coding agent wants to run",
    "extract any file paths that this command reads",
    "you are an expert software engineer that generates concise",
    "one-line git commit messages",
    "you are a specialized task routing ai",
    "you are a strategic task router",
    "you are an expert ai diagnostician",
    "generate a filename slug",
    "tasked with summarizing tool use",
    "describe what the agent is doing",
    "very short topic label",
    "whether a conversational ai assistant is stuck",
    "you are an expert context compressor",
];

/// Words of a request for the title of a conversation: what to do, to what, of what; near each other and in this order.
pub(in crate::turn) const TITLE_VERBS: &[&str] =
    &["generat", "creat", "writ", "come up", "coming up", "suggest", "name"];
/// What of.
pub(in crate::turn) const TITLE_OWNERS: &[&str] =
    &["conversation", "coding task", "session", "chat", "thread", "discussion"];

/// Parts of system messages of calls that run beside an agent and watch over it, with tools or without.
pub(in crate::turn) const MONITOR_SYSTEMS: &[&str] = &[
    "you are a security monitor for",
    "you are a security classifier for an ai coding agent",
    "you are judging one planned coding-agent action",
    "acting as a first-step asynchronous security reviewer",
    "safety monitor for",
    "you are an independent goal verifier",
    "memory extraction",
    "you are now acting as the managed memory",
];
