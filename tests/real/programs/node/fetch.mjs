const response = await fetch('https://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
if (!response.ok) throw new Error(await response.text());
console.log('answer:', (await response.json()).data[0].id);
