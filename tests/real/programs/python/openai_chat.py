from openai import OpenAI

completion = OpenAI().chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "How are you?"}]
)
print("answer:", completion.choices[0].message.content)
