from anthropic import Anthropic

with Anthropic().messages.stream(
    model="claude-sonnet-4-5",
    max_tokens=100,
    messages=[{"role": "user", "content": "How are you?"}],
) as stream:
    print("answer:", "".join(stream.text_stream))
