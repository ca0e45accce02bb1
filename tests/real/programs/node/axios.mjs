import axios from 'axios';

const response = await axios.get('https://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
console.log('answer:', response.data.data[0].id);
