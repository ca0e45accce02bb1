from openai import OpenAI

stream = OpenAI().chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "How are you?"}], stream=True
)
print("answer:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))
