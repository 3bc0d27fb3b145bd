// One turn with a tool call on Go's standard library: crypto/tls and net/http (HTTP/2 unless GODEBUG=http2client=0).
//
//	go-client BASE_URL [TURNS]     the CA from SSL_CERT_FILE
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
}

type block struct {
	Type  string         `json:"type"`
	ID    string         `json:"id,omitempty"`
	Name  string         `json:"name,omitempty"`
	Text  string         `json:"text,omitempty"`
	Input map[string]any `json:"input,omitempty"`
}

var tool = map[string]any{
	"name": "run_shell", "description": "Runs a command",
	"input_schema": map[string]any{"type": "object", "properties": map[string]any{"command": map[string]any{"type": "string"}}, "required": []string{"command"}},
}

func call(url string, messages []message) ([]block, error) {
	body, err := json.Marshal(map[string]any{"model": "claude-sonnet-5-5", "max_tokens": 512, "tools": []any{tool}, "messages": messages})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest("POST", url+"/v1/messages", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("x-api-key", "sk-ant-test-0000")
	request.Header.Set("anthropic-version", "2023-06-01")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != 200 {
		return nil, fmt.Errorf("status %d: %s", response.StatusCode, data)
	}
	var answer struct {
		Content []block `json:"content"`
	}
	return answer.Content, json.Unmarshal(data, &answer)
}

func turn(url string, number int) error {
	messages := []message{{"user", fmt.Sprintf("turn %d", number)}}
	for {
		blocks, err := call(url, messages)
		if err != nil {
			return err
		}
		messages = append(messages, message{"assistant", blocks})
		var results []map[string]any
		text := ""
		for _, b := range blocks {
			text += b.Text
			if b.Type == "tool_use" {
				command, _ := b.Input["command"].(string)
				results = append(results, map[string]any{"type": "tool_result", "tool_use_id": b.ID, "content": strings.TrimPrefix(command, "echo ")})
			}
		}
		if results == nil {
			fmt.Println(text)
			return nil
		}
		messages = append(messages, message{"user", results})
	}
}

func main() {
	turns := 1
	if len(os.Args) > 2 {
		turns, _ = strconv.Atoi(os.Args[2])
	}
	for number := 1; number <= turns; number++ {
		if err := turn(os.Args[1], number); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
