import Anthropic from '@anthropic-ai/sdk';

const stream = new Anthropic().messages.stream({
  model: 'claude-sonnet-4-5',
  max_tokens: 100,
  messages: [{ role: 'user', content: 'How are you?' }],
});
console.log('answer:', await stream.finalText());
