// One call with the standard library's default client.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func main() {
	request, err := http.NewRequest("GET", "https://api.openai.com/v1/models", nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	var models struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(response.Body).Decode(&models); err != nil {
		panic(err)
	}
	fmt.Println("answer:", models.Data[0].ID)
}
