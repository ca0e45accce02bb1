from langchain_openai import ChatOpenAI

print("answer:", ChatOpenAI(model="gpt-4o-mini").invoke("How are you?").content)
