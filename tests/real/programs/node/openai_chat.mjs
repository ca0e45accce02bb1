import OpenAI from 'openai';

const completion = await new OpenAI().chat.completions.create({
  model: 'gpt-4o-mini',
  messages: [{ role: 'user', content: 'How are you?' }],
});
console.log('answer:', completion.choices[0].message.content);
